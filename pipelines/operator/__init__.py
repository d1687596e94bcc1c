"""What the operator's machine does: bring up, examine, load, show."""
