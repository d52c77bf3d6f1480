"""Prometheus series of this process; labels are bounded by catalogue and policies, never by what clients send."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from gateway.ledger.record import Record

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_STAGE_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2)
Gauges = Callable[[], Mapping[str, float]]


class Metrics:
    """Counters of answered requests; `watch` adds gauges that are read when scraped."""

    def __init__(self, folder: str | None = None) -> None:
        self._folder = folder
        self._registry = CollectorRegistry()
        labels = ("route", "model", "endpoint", "policy", "status")
        self._requests = self._counter("requests", "Requests by outcome.", labels)
        self._tokens = self._counter("tokens", "Tokens by direction.", ("model", "direction"))
        self._cost = self._counter("cost_usd", "Cost of answered requests in US dollars.", ("model",))
        self._fallbacks = self._counter(
            "fallbacks", "Calls that failed before their first byte.", ("endpoint", "outcome")
        )
        self._cache = self._counter("cache", "Requests that the cache had to do with.", ("result", "category"))
        self._saved = self._counter("cache_saved_usd", "What cached answers had cost in US dollars.", ())
        self._total = self._histogram("request_seconds", "Admission to last byte.", ("route",), _SECONDS)
        self._first = self._histogram("first_byte_seconds", "Admission to first byte.", ("route",), _SECONDS)
        self._embed = self._histogram("embedding_seconds", "Time spent waiting for an embedding.", (), _STAGE_SECONDS)
        self._decide = self._histogram("routing_seconds", "Time spent deciding.", (), _STAGE_SECONDS)
        self._gauges: dict[str, tuple[Gauge, Gauges]] = {}
        self._children: dict[tuple[str, ...], Counter] = {}
        self._times: dict[str, tuple[Histogram, Histogram]] = {}
        self._spent: dict[str, tuple[Counter, Counter, Counter]] = {}

    def answered(self, record: Record) -> None:
        """Count one finished request."""
        key = (record.route, record.model or "", record.endpoint or "", record.policy or "", str(record.status))
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = self._requests.labels(*key)
        child.inc()
        total, first = self._times.get(record.route) or self._times_of(record.route)
        if record.total_ms is not None:
            total.observe(record.total_ms / 1000)
        if record.first_byte_ms is not None:
            first.observe(record.first_byte_ms / 1000)
        if record.embed_ms is not None:
            self._embed.observe(record.embed_ms / 1000)
        if record.route_ms is not None:
            self._decide.observe(record.route_ms / 1000)
        if record.cache_status != "off":
            self._cache.labels(record.cache_status, record.category or "").inc()
            self._saved.inc((record.saved_nanousd or 0) / 1e9)
        for part in record.children or (record,):
            if part.model and part.input_tokens is not None:
                tokens_in, tokens_out, cost = self._spent.get(part.model) or self._spent_of(part.model)
                tokens_in.inc(part.input_tokens)
                tokens_out.inc(part.output_tokens or 0)
                cost.inc((part.cost_nanousd or 0) / 1e9)
        for attempt in record.attempts:
            if attempt["outcome"] != "ok":
                self._fallbacks.labels(attempt["endpoint"], attempt["outcome"]).inc()

    def _times_of(self, route: str) -> tuple[Histogram, Histogram]:
        found = self._times[route] = (self._total.labels(route), self._first.labels(route))
        return found

    def _spent_of(self, model: str) -> tuple[Counter, Counter, Counter]:
        tokens, cost = self._tokens, self._cost
        found = (tokens.labels(model, "input"), tokens.labels(model, "output"), cost.labels(model))
        self._spent[model] = found
        return found

    def watch(self, prefix: str, documentation: str, read: Gauges) -> None:
        """Export every entry of `read()` as a gauge `fingerpost_<prefix>{name=...}`.

        With several workers an entry is the sum over those alive, or their least where its name ends in `_up`, their
        largest where it ends in `_most`.
        """
        gauge = Gauge(
            f"fingerpost_{prefix}", documentation, ("name",), registry=self._registry, multiprocess_mode="liveall"
        )
        self._gauges[prefix] = (gauge, read)

    def refresh(self) -> None:
        """Set the gauges to what they are now; workers do so regularly, since a scrape reaches only one of them."""
        for gauge, read in self._gauges.values():
            for name, value in read().items():
                gauge.labels(name).set(value)

    def render(self) -> tuple[bytes, str]:
        """The text exposition and its content type."""
        self.refresh()
        registry = self._registry
        if self._folder:
            registry = CollectorRegistry()
            registry.register(_AllWorkers(self._folder))
        return generate_latest(registry), CONTENT_TYPE_LATEST

    def _counter(self, name: str, documentation: str, labels: tuple[str, ...]) -> Counter:
        return Counter(f"fingerpost_{name}", documentation, labels, registry=self._registry)

    def _histogram(
        self, name: str, documentation: str, labels: tuple[str, ...], buckets: tuple[float, ...]
    ) -> Histogram:
        return Histogram(f"fingerpost_{name}", documentation, labels, registry=self._registry, buckets=buckets)


class _AllWorkers(Collector):
    """The series of all workers as one process' series."""

    def __init__(self, folder: str) -> None:
        self._collector = MultiProcessCollector(None, path=folder)  # type: ignore[no-untyped-call]

    def collect(self) -> Iterator[Metric]:
        """Counters and histograms are added up by the library, gauges here."""
        for metric in self._collector.collect():  # type: ignore[no-untyped-call]
            if metric.type == "gauge":
                metric.samples = _joined(metric.samples)
            yield metric


def _of_all(name: str, values: list[float]) -> float:
    if name.endswith("_up"):
        return min(values)
    return max(values) if name.endswith("_most") else sum(values)


def _joined(samples: Iterable[Sample]) -> list[Sample]:
    found: dict[tuple[str, str], list[float]] = {}
    for sample in samples:
        found.setdefault((sample.name, sample.labels["name"]), []).append(sample.value)
    return [Sample(series, {"name": name}, _of_all(name, values)) for (series, name), values in found.items()]


def forget_all(folder: str) -> None:
    """Remove what workers of an earlier start have left; none may be running."""
    for left in Path(folder).glob("*.db"):
        left.unlink()


def forget_worker(folder: str, pid: int) -> None:
    """Drop the gauges of a worker that has ended; what it counted stays counted."""
    mark_process_dead(pid, folder)  # type: ignore[no-untyped-call]
