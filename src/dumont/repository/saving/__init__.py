"""Saving: a directory tree becomes a commit in a repository."""
