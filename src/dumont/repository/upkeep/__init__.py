"""Upkeep: listing, comparing, checking, forgetting and pruning what a repository holds."""
