"""The one process that carries commands out."""
