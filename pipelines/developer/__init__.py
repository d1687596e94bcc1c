"""The verbs of those who change Slipway itself."""
