"""Several gateway processes that are one to everybody outside: one port, one admin listener, one set of figures."""
