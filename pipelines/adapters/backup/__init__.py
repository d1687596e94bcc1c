"""Backups: their one file, and what of an installation goes into it and comes back."""
