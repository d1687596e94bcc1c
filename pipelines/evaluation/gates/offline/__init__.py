"""Gates that need no running service."""
