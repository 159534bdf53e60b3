"""The command line, and how each command's result is written for a terminal.

Doors: `main`, and `options` for other commands of the same kind.
"""
