"""Who did what, and who is told: events, the states of work, and what stands at this moment."""
