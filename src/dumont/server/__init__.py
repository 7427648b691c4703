"""What a server process needs before its parts can be put together."""
