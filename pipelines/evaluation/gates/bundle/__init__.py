"""Gates over a bundle itself: its bytes, its graph, its schema, and whether it answers as its training did."""
