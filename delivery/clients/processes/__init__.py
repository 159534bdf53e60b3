"""Local processes: started once, found again by another command, and ended with everything that they started.

Doors: `local` (start, find, end), `ports` (who listens), `interruption` (signals that end a command).
"""
