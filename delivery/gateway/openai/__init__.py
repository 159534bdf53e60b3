"""What OpenAI's API says, as far as a gateway must understand it: requests, answers, streams, errors.

Doors: `endpoints` (a room of its own: what differs by path), `call` (a request), `answers` and `streams` (what comes
back), `errors`, `contract`, `policies` and `forced` (what a route sets for its users), `bodies`, `openapi`.
"""
