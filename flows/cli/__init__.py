"""The command line, and how each command's result is written for a terminal.

Doors: `main`, `options` for other commands of the same kind, `status` and `explain` for what shows the same elsewhere.
"""
