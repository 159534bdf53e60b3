"""What passes the gateway, as plain facts and pure arithmetic: who gets which variant, and what a request left behind.

Doors: `records` (one attempt), `columns` (the traffic log), `assignment`, `breaker`, `pairs`, `playback`, `experiment`.
"""
