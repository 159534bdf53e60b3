"""What a build is made of, as pure rules: which rows a dataset version keeps, what a bundle is, what the gate lets by.

Doors: `dataset` (versions), `rows`, `sift` and `split` (their rules), `layouts` (shapes of rows), `overlap` (with eval
suites), `bundle`, `servable` (what vLLM can load), `gate`.
"""
