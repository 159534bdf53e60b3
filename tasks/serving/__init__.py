"""Where vLLM and gateways run: as local processes with a supervisor, as containers, as pods, or where others do.

Doors: `environment` (up, down, state), `target` (what a place can do), `targets` (which there are), `local` and
`processes` (of this machine), `docker` (containers), `kubernetes` (pods), `gitops` (pods that a chart in Git
describes), `external` (what others run), `combined` (several of these as one), `keep_alive`, `supervisor`,
`vllm_command` and `vllm_models` (vLLM's arguments, and what it can serve).
"""
