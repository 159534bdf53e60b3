"""What a build decides, as pure rules: which rows train, what is versioned together, what vLLM can serve.

Doors: `dataset`, `readers`, `bundle`, `servable`, `gate` (whether the evals let a candidate out).
"""
