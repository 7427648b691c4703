"""Emulators of providers: HTTP servers that follow their contracts, faults included, for tests, demos and users."""
