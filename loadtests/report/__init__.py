"""The page that a load run leaves for people."""
