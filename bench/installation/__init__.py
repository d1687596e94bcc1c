"""Benchmarks of a whole installation."""
