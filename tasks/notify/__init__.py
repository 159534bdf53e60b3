"""Telling people: brings what the ledger's outbox holds to its receivers, beside the work and never in its way.

Doors: `courier` (for whoever works), `deliver` (for whoever waits for it), `direct` (without a ledger), `receivers`,
`told` (what is no decision of a release).
"""
