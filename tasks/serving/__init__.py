"""Where vLLM and gateways run: as local processes with a supervisor, as pods, or where others start and end them.

Doors: `environment` (up, down, state), `target` (what a place can do), `targets` (which there are), `local` (the
processes), `kubernetes` (pods), `keep_alive`, `supervisor`, `vllm_command` and `vllm_models` (vLLM's arguments, and
what it can serve).
"""
