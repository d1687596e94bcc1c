"""Reads people's data as text, each value with its place in the file, and types it: what can't be is refused."""
