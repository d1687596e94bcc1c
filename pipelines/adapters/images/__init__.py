"""Container images: built, pushed, appended to."""
