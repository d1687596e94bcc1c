"""Changing what serves, and going back: under a lease, step by step, undone as a whole."""
