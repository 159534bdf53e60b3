"""What a build is made of, as pure rules: which rows a dataset version keeps, what a bundle is, what the gate lets by.

Doors: `dataset` (versions), `rows`, `sift`, `split`, `steps` and `text` (their rules), `report`,
`layouts` (shapes of rows), `guess` (which project fits some rows), `overlap` (with eval suites), `base_model`, `memory`
and `budget` (what training needs and may take), `refresh` (whether there is anything to build), `drift` (of what users
ask), `continued` (from whose adapter), `bundle`, `documents` (what lies beside it), `difference` (of two builds),
`version_difference`, `servable` (what vLLM can load), `gate`, `comparison`, `pairs` and `slices` (with production),
`teaching` (what a teacher is asked).
"""
