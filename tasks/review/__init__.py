"""People decide which answers of production become training rows: items are collected, reviewed, and read by a dataset.

Doors: `desk` (all that a reviewer does), `collect` (where items come from), `source` (what a dataset version reads),
`behind` (the reviewed rows behind a bundle), `erase` (a person, from here and from the dataset versions).
"""
