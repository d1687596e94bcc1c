"""The service: one bundle, read from disk, over HTTP; it knows no registry, no database and no credential."""
