"""Stands beside one vLLM: keeps adapters on its disk under their digests, and says what their bytes are.

Door: `python -m delivery.agent`, which listens for a controller. It knows neither routes nor releases.
"""
