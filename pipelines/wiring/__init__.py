"""Joins ports and adapters: the one place that names concrete ones."""
