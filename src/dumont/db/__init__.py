"""The database: who owns what, at which epoch, and what was written down before it was done."""
