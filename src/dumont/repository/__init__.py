"""A repository of snapshots: packs, indexes and commits in a store, sealed (docs/snapshots.md)."""
