"""What Prefect is told of a work pool whose runs are pods or containers, and where its server differs from that.

Doors: `fit` (whether runs can work), `files` (all that is written), `check` (a server's pool), `train_job`.
"""
