"""One bundle's way through the stages, as a pure function of plan, state, observation and time.

Doors: `decide`, `state` (what a release is made of), `routes` (the table that a state wants), `steps` (how people
see it), `hours` (when one may begin), `take_back` and `way_back` (a person's rollback), `messages` (what people
are told), `retention` (what may be removed), `members` (replicas that come and go), `replay`, `promotion` (from
one environment to the next).
"""
