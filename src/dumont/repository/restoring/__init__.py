"""Restoring: a commit becomes a directory tree."""
