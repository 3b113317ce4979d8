"""What the receiver counts, for Prometheus.

Plain numbers, made into metrics when they are asked for: prometheus-client's own take a lock at every step, and
a delivery has three.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from counterfoil.clerk.webhook import Refusal

TYPES_LIMIT = 50
"""So many ignored types have a metric of their own; the rest share one."""
_OUTCOMES = (
    "taken",
    "ignored",
    "unreadable",
    "refused",
    "full",
    "too_large",
    "too_slow",
    "disconnected",
    "not_post",
)
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0)


class DeliveryFigures(Collector):
    """Deliveries by outcome, refusals by reason, ignored types, and how long genuine ones took."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.outcomes = dict.fromkeys(_OUTCOMES, 0)
        self._refused = dict.fromkeys((str(reason) for reason in Refusal), 0)
        self._types: dict[str, int] = {}
        self._counts = [0] * (len(_BUCKETS) + 1)
        self._seconds = 0.0
        registry.register(self)

    def refuse(self, reason: str) -> None:
        """One was refused; ``reason`` is the text of a `Refusal`."""
        self.outcomes["refused"] += 1
        self._refused[reason] += 1

    def ignore(self, kind: str) -> None:
        """One is of a type that is of no concern."""
        self.outcomes["ignored"] += 1
        if kind not in self._types and len(self._types) >= TYPES_LIMIT:
            kind = "other"
        self._types[kind] = self._types.get(kind, 0) + 1

    def took(self, seconds: float) -> None:
        """A genuine one was answered."""
        self._counts[bisect_left(_BUCKETS, seconds)] += 1
        self._seconds += seconds

    def collect(self) -> Iterator[Metric]:
        """All of them, as Prometheus has them."""
        yield _counter("deliveries", "Deliveries by what became of them.", "outcome", self.outcomes.items())
        reasons = ((Refusal(reason).name.lower(), count) for reason, count in self._refused.items())
        yield _counter("deliveries_refused", "Refused deliveries by reason.", "reason", reasons)
        yield _counter("ignored_events", "Signed events of no concern, by type.", "type", self._types.items())
        bounds = (*map(str, _BUCKETS), "+Inf")
        yield HistogramMetricFamily(
            "counterfoil_delivery_seconds",
            "From the whole request to the answer, of genuine deliveries.",
            buckets=list(zip(bounds, accumulate(self._counts), strict=True)),
            sum_value=self._seconds,
        )


def _counter(name: str, what: str, label: str, values: Iterable[tuple[str, int]]) -> Metric:
    family = CounterMetricFamily(f"counterfoil_{name}", what, labels=[label])
    for value, count in values:
        family.add_metric([value], count)
    return family
