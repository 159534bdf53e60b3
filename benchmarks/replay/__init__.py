"""How fast a release plan is replayed over recorded traffic."""
