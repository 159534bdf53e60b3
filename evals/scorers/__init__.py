"""How one sample's replies become a score, or "could not judge" with the reason: one file a kind, all of them pure.

Doors: `kinds` (every kind by name, as an eval.yaml chooses it), `score` (what a kind says of a sample), and
of the kinds `choice`, `detector`, `function` and `judge`, which others have to prepare or to sum up.
"""
