"""Trees, chunks and commits: saving, restoring and applying them."""
