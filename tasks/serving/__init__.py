"""Where vLLM and gateways run: as local processes with a supervisor, or as replicas that others start and end.

Doors: `environment` (up, down, state), `target` (what a place can do), `targets` (which there are), `local` (the
processes), `keep_alive`, `supervisor`, `vllm_command` and `vllm_models` (vLLM's arguments, and what it can serve).
"""
