"""How fast a dataset version is built and how much memory that takes, beside a plain script with `datasets`."""
