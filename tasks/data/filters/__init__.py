"""Filters that a recipe asks for by name: each judges rows one by one, or the kept ones together, and is recorded.

Doors: `known` (the steps of a recipe), `near_duplicates` (rows against rows).
"""
