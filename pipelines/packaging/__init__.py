"""From a registered version to a bundle: what a release consists of, made of what others registered."""
