"""The ledger: bundles, releases, decisions, approvals and routing revisions in SQLite or PostgreSQL.

Doors: `ledger` (all that can be asked and written), `errors`, `outbox` (what people are told), `review` (what people
decide about answers), `chain` (whether a row was changed or removed), and of `reads` the rows that it returns.
"""
