"""The control room: a page for people that shows what the command line reads and acts through the same tasks.

Doors: `server`, and `room` (what it shows).
"""
