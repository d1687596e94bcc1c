"""Runs the stretches of a plan as processes, and writes down what they found."""
