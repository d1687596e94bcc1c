"""A swarm of two engines on one machine, and what becomes of what serves when a node is lost or cut off."""
