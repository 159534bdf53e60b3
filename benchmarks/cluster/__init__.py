"""How fast a rollback reaches every gateway pod, and a new vLLM pod its users, on a cluster; doors: `__main__`."""
