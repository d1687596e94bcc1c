"""Confined jobs, as child processes and as containers."""
