"""What builds made, in object storage or on a shared volume: whole items, each file verified by its digest.

Doors: `items` (put one there, fetch one), `errors`.
"""
