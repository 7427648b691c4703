"""The gateway: a workspace's one stable address, in a process of its own that needs no server to route."""
