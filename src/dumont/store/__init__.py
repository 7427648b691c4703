"""Object storage: the history of a workspace."""
