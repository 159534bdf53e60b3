"""The heart: bundles, gates, rollout decisions, routing - pure rules, and the clients and gateway that act on them."""
