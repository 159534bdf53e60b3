"""The shapes that a row may have, one file each: how it is recognised, and how it becomes chat messages.

Doors: `known` (the table, and which of them some rows have), `row` (what every layout gives back),
`columns` (rows that a recipe maps by itself).
"""
