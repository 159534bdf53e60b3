"""`/v1/responses`: its requests, its policy, its answers and the events of its streams.

Doors: `endpoint`.
"""
