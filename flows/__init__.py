"""When things happen: short flows, and the command line."""
