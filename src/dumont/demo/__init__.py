"""The demo: a real workload in a workspace whose instances are killed and cut off, judged from outside."""
