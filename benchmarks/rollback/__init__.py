"""How long a bad candidate keeps its users, measured live: real gateways, real controller, real ledger, stub models."""
