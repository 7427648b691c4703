"""Worlds of real saves, prunes, checks and restores over one store, in an order that a seed decides."""
