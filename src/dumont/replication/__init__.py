"""Keeping a second copy: cutting commits, sending, journaling, acknowledging, promoting."""
