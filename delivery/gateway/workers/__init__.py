"""Several gateway processes that are one to everybody outside: one port, one admin listener, one set of figures.

Doors: `serving` (all of them as one), `member` (what one of them is to the others).
"""
