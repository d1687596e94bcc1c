"""Durable workflows on somebody else's engine."""
