"""The traffic gateway: its own process, serving a routing table and nothing else."""
