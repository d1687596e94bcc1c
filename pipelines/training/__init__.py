"""From raw data to a registered version: the stages of dvc.yaml and the registration."""
