"""Counts and times the requests of one replica, in Prometheus' text form."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

ROUTES = ("/predict", "/predict/batch", "/health", "/ready", "/metrics", "/runtime", "/docs", "/openapi.json")
OTHER = "other"
_BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class Metrics:
    """The metrics of one app; each app has its own registry, so two can live in one process."""

    def __init__(self, *, stage: str, model: str, version: str, digest: str) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter("slipway_requests", "Requests answered.", ["route", "status"], registry=self._registry)
        latencies = Histogram(
            "slipway_request_seconds",
            "From the request's head to its answer.",
            ["route"],
            buckets=_BUCKETS_S,
            registry=self._registry,
        )
        info = Gauge(
            "slipway_model_info",
            "1 for the release that is served.",
            ["stage", "model", "version", "digest"],
            registry=self._registry,
        )
        info.labels(stage, model, version, digest).set(1)
        # Looked up once: a lookup by labels costs as much as validating a row.
        self._latencies = {route: latencies.labels(route) for route in (*ROUTES, OTHER)}
        self._counts: dict[tuple[str, int], Counter] = {}

    def observe(self, path: str, status: int, seconds: float) -> None:
        """Count one answer; paths that are not routes share one label."""
        route = path if path in self._latencies else OTHER
        count = self._counts.get((route, status))
        if count is None:
            count = self._counts[route, status] = self._requests.labels(route, str(status))
        count.inc()
        self._latencies[route].observe(seconds)

    def render(self) -> bytes:
        """Return all metrics as Prometheus text."""
        return generate_latest(self._registry)
