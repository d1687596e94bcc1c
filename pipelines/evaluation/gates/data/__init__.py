"""Gates over the data that a version was trained on and is judged by."""
