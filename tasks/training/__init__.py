"""From rows and settings to an adapter, in a process of its own; what was trained before is found, not repeated.

Doors: `train` (the verb), `merge` (into the base model), `model` (the base model as a folder), `chat` (how a
conversation becomes the tokens that vLLM sees), `template`, `rows`, `fit` (whether all of it goes together). Methods
are a room inside.
"""
