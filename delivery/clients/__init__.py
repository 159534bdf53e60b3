"""Clients of external systems: effects live here, decisions do not.

Every module is a door, and so is every room.
"""
