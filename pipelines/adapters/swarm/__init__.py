"""Releases as services of a Docker Swarm."""
