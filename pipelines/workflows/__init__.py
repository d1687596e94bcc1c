"""The durable workflows that evaluate, release and roll back versions."""
