"""The bench of the snapshot engine: datasets, peers, limits and a table, in one run and with one command."""
