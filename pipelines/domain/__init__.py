"""Pure rules of promotion: standard library only, no clock, no I/O."""
