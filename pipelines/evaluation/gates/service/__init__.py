"""Gates over a running service."""
