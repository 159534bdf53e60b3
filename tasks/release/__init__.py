"""The verbs of a release: package a bundle, bring it through its stages, take it back, explain what was decided.

Doors: `bundle`, `start` (a route brought up), `run`, `outcome`, `rollback`, `quarantine`, `controller`, `site` (an
environment as releases reach it), `explain`, `replay`, `experiment`.
"""
