"""How a variant is asked: which of its replicas, over which connection, and what a copy for the candidate costs nobody.

Doors: `ask` (one attempt), `replicas` (who is up), `health` (how that is known), `mirror` (copies).
"""
