"""What Prefect is told of a work pool whose runs are pods or containers: its job template and its deployments.

Doors: `files` (all that `slipway pool` writes).
"""
