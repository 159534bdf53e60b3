"""How quick the review queue stays when it is long."""
