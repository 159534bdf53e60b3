"""vLLM and gateways as containers of this machine's Docker engine, in a network of their own without a way out.

Doors: `target` (the place, and the end of all containers of a state folder).
"""
