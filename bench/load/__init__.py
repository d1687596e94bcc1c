"""Benchmarks of load generator and judge."""
