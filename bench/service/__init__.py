"""Benchmarks of one service."""
