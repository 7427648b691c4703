"""The driver of Google Compute Engine: spot CPU machines through the official client (extra `gce`)."""
