"""How long gates take."""
