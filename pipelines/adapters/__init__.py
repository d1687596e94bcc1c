"""Technology behind the ports: the only place that knows MLflow, processes and SQL."""
