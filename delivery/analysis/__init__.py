"""Whether a candidate is worse, or not worse, than its limits allow: tests that may be looked at after every request.

Each test is a small frozen value, a *process*. It is updated with one block of data per tick and always has an
E-value: under its null hypothesis the E-value's mean never exceeds 1, so that by Ville's inequality it ever reaches
1/alpha with a probability of at most alpha, however often one looks and whenever one stops. No data leaves it at 1.

Every module is a door: checks put their tests together from all of them.
"""
