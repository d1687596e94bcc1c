"""Gate over how little it takes to change a model's answers."""
