"""What Prometheus is told. The first figure is the one to alert on: the age of the oldest unsettled link."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from counterfoil.store.figures import Backlog


class Metrics:
    """The figures that are not the receiver's own."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._oldest = Gauge(
            "counterfoil_oldest_unsettled_seconds",
            "Age of the oldest link that is not settled; 0: all are.",
            registry=registry,
        )
        self._unsettled = Gauge(
            "counterfoil_unsettled_links", "Links that are not settled, parked ones left out.", registry=registry
        )
        self._parked = Gauge(
            "counterfoil_parked_links", "Links that need a person.", ["reason"], registry=registry
        )
        self._open = Gauge("counterfoil_breaker_open", "1: calls are paused.", ["upstream"], registry=registry)
        self._held = Gauge(
            "counterfoil_deletions_held",
            "1: too many users were deleted within an hour, and nothing is removed.",
            registry=registry,
        )
        self._held_links = Gauge("counterfoil_held_links", "Removals that are held.", registry=registry)
        self._scanned = Gauge(
            "counterfoil_scanned_customers", "Customers met by the scan under way or the last.", registry=registry
        )
        self._calls = Counter(
            "counterfoil_calls", "Calls by outcome.", ["upstream", "operation", "outcome"], registry=registry
        )
        self._seconds = Histogram(
            "counterfoil_call_seconds",
            "How long calls took.",
            ["upstream"],
            buckets=(0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0),
            registry=registry,
        )

    def observe_call(self, upstream: str, operation: str, outcome: str, seconds: float) -> None:
        """Count one call."""
        self._calls.labels(upstream, operation, outcome).inc()
        self._seconds.labels(upstream).observe(seconds)

    def render(
        self, backlog: Backlog, breakers: dict[str, bool], scanned: int, held: int | None, now: int
    ) -> bytes:
        """All figures as text, in Prometheus' format.

        Args:
            backlog: what is not settled.
            breakers: whether each upstream's breaker is open.
            scanned: customers met by the scan.
            held: how many removals the deletion breaker holds; ``None``: it is closed.
            now: milliseconds.
        """
        age = 0.0 if backlog.oldest is None else max(0.0, (now - backlog.oldest) / 1000)
        self._oldest.set(age)
        self._unsettled.set(backlog.unsettled)
        self._parked.clear()
        for reason, count in backlog.parked.items():
            self._parked.labels(reason).set(count)
        for upstream, is_open in breakers.items():
            self._open.labels(upstream).set(int(is_open))
        self._scanned.set(scanned)
        self._held.set(int(held is not None))
        self._held_links.set(held or 0)
        return generate_latest(self._registry)
