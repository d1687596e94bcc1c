"""What people may ask for."""
