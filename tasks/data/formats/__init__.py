"""The kinds of files that rows come in, one file each; compressed ones are unpacked while they are read.

Doors: `known` (the table, and what a file is), `datafile` (a file as every format gets it), `tables`
(columns in pieces).
"""
