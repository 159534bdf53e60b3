"""HTTP/1.1 on both sides of the gateway: `server` reads users' requests, `client` asks replicas, llhttp parses both.

Doors: `messages` (what a request and a response are), `server`, `client`, `upstream_answer`, `listeners`, `deadlines`.
"""
