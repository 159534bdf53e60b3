"""From sources to a dataset version: files are read row by row, the rules applied, the result stored by its digest.

Doors: `dataset` (build one), `store` (keep and read them), `sources` (read a file).
"""
