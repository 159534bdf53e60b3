"""From sources to a dataset version: files are read row by row, the rules applied, the result stored by its digest.

Doors: `dataset` (build one, read one), `of_project` (a project's), `filters` (what a recipe may ask for),
`sources` and `reading` (files and their rows), `overlap` (with eval suites), `store`, `looking` (at versions),
`croissant`, `replay` (of rows that were trained on before), `erase` and `erasures` (a person's rows), `documents` and
`teach` (rows by a teacher's answers).
"""
