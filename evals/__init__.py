"""Suites as data, and the pure functions that score and summarise them.

Every module is a door, and so is the room of scorers.
"""
