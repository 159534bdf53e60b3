"""Who may ask for what, and how much: API keys and their budgets, which a restart does not refill.

Doors: `access` (a key and what is left of it), `tokens` (what a request takes of it), `budget_files` (what was
spent, on disk), `new_key` (makes one).
"""
