"""Many adapters behind one vLLM, and how a gateway shares them out among several; doors: `__main__`."""
