"""What a replica knows of its bundle: files, request schema, scoring."""
