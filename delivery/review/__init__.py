"""What people decide about answers that production gave, as pure rules: which items, by whom, and when one is approved.

Doors: `items` (what an item is), `rules` (who may do what), `rows` (what an approved item becomes), `agreement` (of two
people), `picks` (which requests become items).
"""
