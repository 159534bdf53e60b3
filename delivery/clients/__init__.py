"""Clients of external systems: effects live here, decisions do not."""
