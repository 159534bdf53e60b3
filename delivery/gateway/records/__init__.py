"""What the gateway remembers of the requests that passed: attempts, pairs, feedback, metrics, traces, the log.

Doors: `attempts` (what everything else is made from), `feedback`, `pairs`, `metrics`, `exposition`, `traces`,
`traffic_log`, `redaction` (what a log leaves out).
"""
