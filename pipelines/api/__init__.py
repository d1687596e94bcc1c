"""The HTTP API: authenticates people and writes their commands, and can change nothing else."""
