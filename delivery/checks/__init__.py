"""From records to verdicts: evidence is gathered per check, tested, and said as pass, fail, inconclusive or error.

Doors: `verdicts` (what a stage's checks say), `evidence`, `fold` (how it grows), `judgements` (a judge compares pairs),
`forecast`, `growth` (for people who wait), `explain`.
"""
