"""What runs on an instance: a small watchdog, and the engine, the pulse and the session that it starts."""
