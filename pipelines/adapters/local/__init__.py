"""Releases as processes of one machine."""
