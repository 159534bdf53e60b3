"""An environment whose pods come from a chart in Git: its values, and what a release step changes in them.

Doors: `values` (from environment.yaml to the chart's values) and `steps` (what a release changes), both pure.
"""
