"""vLLM and the gateway as local processes: started, watched over by a supervisor, and ended.

Doors: `environment` (up, down, state), `local` (the processes), `supervisor`, `vllm_command`.
"""
