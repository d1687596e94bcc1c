"""An installation on containers, from the operator's side."""
