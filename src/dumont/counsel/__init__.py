"""Counsel: the advisor on the command line, with a server's offers or without a server."""
