"""The one place that joins ports and adapters: nothing else names a concrete adapter."""
