"""When things happen: short flows, and the command line.

Doors: `build`, `release`, `reporting` (what a run shows), `cli`.
"""
