"""A Docker engine: containers are made once, found again by name and label, and say why they ended.

Doors: `engine` (what can be done there), `container` (what one is made of, and how it is), `errors`.
"""
