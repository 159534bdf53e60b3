"""The traffic gateway: its own process, serving a routing table and nothing else.

It has no doors: `python -m delivery.gateway` starts it, and everything else reaches it over HTTP.
"""
