"""Whoever rents machines out."""
