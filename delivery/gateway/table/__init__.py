"""The routing table: read out of files and calls, served under a lease, and watched where a person edits it.

Doors: `served` (the table in force), `files` (tables and state on disk), `watch` (any file that a person edits).
"""
