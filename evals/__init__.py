"""Suites as data, and the pure functions that score and summarise them."""
