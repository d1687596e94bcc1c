"""How long it takes until a version can be registered."""
