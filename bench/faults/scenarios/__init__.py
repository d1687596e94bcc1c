"""What is injected, a module for each part of the world that fails."""
