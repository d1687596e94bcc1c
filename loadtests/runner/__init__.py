"""Runs the phases of a plan as processes, and writes down what they found."""
