"""The forms in which clients ask for predictions."""
