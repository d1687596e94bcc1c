"""Decides and changes what is served: training, gates, workflows, API, executor and CLI."""
