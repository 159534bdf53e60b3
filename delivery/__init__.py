"""The heart: bundles, gates, rollout decisions, routing - pure rules, and the clients and gateway that act on them.

Every module is a door, and so is every room.
"""
