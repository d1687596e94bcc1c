"""Pure rules over raw latencies: what passes, what fails, and what can't be told."""
