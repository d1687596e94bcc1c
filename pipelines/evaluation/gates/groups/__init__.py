"""Gates over groups of rows: what a model does to some of its clients, which its averages don't show."""
