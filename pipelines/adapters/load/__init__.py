"""Load runs, as processes and as jobs of the Swarm."""
