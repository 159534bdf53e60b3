"""A team's own project: `init` writes its folder from a look at the data, `check` says what would happen with it.

Doors: `init` and `check`.
"""
