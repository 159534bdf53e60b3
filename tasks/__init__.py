"""One verb per Prefect task; the only place that imports torch, peft, trl and lm_eval.

Every module is a door, and so is every room.
"""
