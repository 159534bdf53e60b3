"""The gateway beside its peers: what a request costs, alone and under load."""
