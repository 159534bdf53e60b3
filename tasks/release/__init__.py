"""The verbs of a release: package a bundle, bring it through its stages, take it back, explain what was decided.

Doors: `bundle`, `rebuild`, `merge`, `stack`, `verdict` (the eval gate's), `start` (a route brought up), `run`,
`outcome`, `refusals`, `broken_stable`, `rollback`, `rollback_outcome`, `judge`, `quarantine`, `controller`,
`left_behind` (what a killed process did not finish), `site` (an environment as releases reach it), `published` (in
registries), `clean_up`, `clean_up_registry`, `refresh` (whether one has anything to do), `explain`, `replay`,
`experiment`, `parent` (what a training goes on from), `lineage` (who learned from which rows), `present` (of a route),
`history`, `promotion` (to the next environment).
"""
