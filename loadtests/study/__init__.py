"""How often the judge is wrong, over simulated services."""
