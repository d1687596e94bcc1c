"""Estimators that somebody else has fitted, in a notebook or for another registry: described, exported and measured."""
