"""The market: what offers there are, what an hour on each would really cost, and which to take. Pure."""
