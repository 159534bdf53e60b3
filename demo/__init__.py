"""The product's own story: users, a build that is refused, a release that breaks and comes back. `make demo` runs it.

Nothing else imports this package. Doors: `python -m demo`; `traffic` and `faults`, which are processes of their own.
"""
