"""The faults that Slipway is built against: their catalogue, and what injects them into a running installation."""
