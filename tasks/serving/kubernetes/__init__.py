"""vLLM and gateways as pods of a Kubernetes cluster: what is applied there, and how the pods are.

Doors: `target` (the place behind the protocol), `manifests` (settings to manifests, pure), `pods` (from what the API
says to who is ready and why others are not, pure), `pulled` (what pods are told to pull), `known` (who was there
last), `access`, `names` and `vllm_pod` (what a chart's values need).
"""
