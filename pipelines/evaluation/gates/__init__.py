"""The rules that a version must pass."""
