"""The HTTP API: authenticates people and writes their intents, and can change nothing else."""
