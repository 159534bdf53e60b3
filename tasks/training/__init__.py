"""From rows and settings to an adapter, in a process of its own; what was trained before is found, not repeated.

Doors: `train` (the verb), `model` (the base model as a folder), `rows` and `loss_mask` (what the trainer sees).
"""
