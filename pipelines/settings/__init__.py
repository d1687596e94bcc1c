"""The settings of one installation."""
