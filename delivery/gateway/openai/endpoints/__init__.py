"""The paths of OpenAI's API that reach a model: a file or a room for each, which holds all that is its own.

Doors: `known` (all of them), `endpoint` (what one is), `chat` (its roles).
"""
