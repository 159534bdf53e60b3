"""The command line, and how each command's result is written for a terminal.

Door: `main`.
"""
