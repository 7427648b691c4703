"""A seed makes a whole world: virtual clock, network, disks, providers and faults around the real code."""
