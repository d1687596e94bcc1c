"""One module a gate: measuring, then a pure judge."""
