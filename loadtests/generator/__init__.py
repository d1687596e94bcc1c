"""Sends what a plan says when it is due, and keeps what came back."""
