"""Stands beside one vLLM: keeps adapters on its disk under their digests, and says what their bytes are.

It pulls and verifies them out of a registry by itself, or takes what a controller sends; it knows neither routes nor
releases. Door: `python -m delivery.agent`.
"""
