"""Slipway's own state in SQL."""
