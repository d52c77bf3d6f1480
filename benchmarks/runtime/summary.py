"""Turns measurements into medians, paired ratios and the layout of the JSON file; measures nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median

CONTENDED_CORES = 0.25
SPEEDS = ("decode", "prefill")

Figures = dict[str, float | None]
ByThreads = dict[str, Figures]


@dataclass(frozen=True, slots=True)
class Measurement:
    """One figure of one round: tokens a second, or bytes a second of phase `bandwidth`.

    `name` is the contestant; in phase `batch` it is the number of sequences.
    """

    round: int
    phase: str
    threads: int
    name: str
    per_s: float
    seconds: float
    other_cores: float

    @property
    def contended(self) -> bool:
        """Whether other processes took so much CPU time meanwhile that the figure says little."""
        return self.other_cores > CONTENDED_CORES

    def told(self) -> dict[str, object]:
        """JSON-ready."""
        return {**asdict(self), "contended": self.contended}


def rotated(names: Sequence[str], round_number: int) -> list[str]:
    """The order of a round: each begins one further, so that no contestant always follows the same one."""
    first = round_number % len(names) if names else 0
    return [*names[first:], *names[:first]]


def clean(measurements: Iterable[Measurement]) -> list[Measurement]:
    """Those that nobody else disturbed."""
    return [one for one in measurements if not one.contended]


def middle(values: Iterable[float]) -> float | None:
    """The median, None of nothing."""
    known = list(values)
    return median(known) if known else None


def medians(measurements: Iterable[Measurement], phase: str) -> ByThreads:
    """Median of each name by threads, in one phase."""
    return _table(measurements, phase, lambda group: middle(one.per_s for one in group))


def counts(measurements: Iterable[Measurement], phase: str) -> ByThreads:
    """How many clean figures each name has by threads; names without any have 0."""
    return _table(measurements, phase, lambda group: float(len(clean(group))))


def _table(
    measurements: Iterable[Measurement], phase: str, figure: Callable[[list[Measurement]], float | None]
) -> ByThreads:
    groups: dict[str, dict[str, list[Measurement]]] = {}
    for one in measurements:
        if one.phase == phase:
            groups.setdefault(str(one.threads), {}).setdefault(one.name, []).append(one)
    return {threads: {name: figure(group) for name, group in names.items()} for threads, names in groups.items()}


def ratios(measurements: Iterable[Measurement], phase: str, ours: str = "ours") -> ByThreads:
    """Median over the rounds of ours / theirs within the same round, so that noise which both met cancels out."""
    by_round = _paired(measurements, phase, lambda one: (one.round, one.threads))
    values: dict[str, dict[str, list[float]]] = {}
    for (_, threads), names in by_round.items():
        for name, other in names.items():
            if ours in names and name != ours:
                values.setdefault(str(threads), {}).setdefault(name, []).append(names[ours].per_s / other.per_s)
    return {threads: {name: middle(found) for name, found in names.items()} for threads, names in values.items()}


def shares_of_bound(measurements: Sequence[Measurement], weight_bytes: int) -> ByThreads:
    """Median over the rounds of decode speed * bytes of the weights / bandwidth of the same round and threads."""
    bandwidth = {
        key: found["arena"].per_s
        for key, found in _paired(measurements, "bandwidth", lambda one: (one.round, one.threads)).items()
    }
    values: dict[str, dict[str, list[float]]] = {}
    for (number, threads), names in _paired(measurements, "decode", lambda one: (one.round, one.threads)).items():
        bound = bandwidth.get((number, threads))
        for name, one in names.items() if bound else ():
            values.setdefault(str(threads), {}).setdefault(name, []).append(one.per_s * weight_bytes / (bound or 1.0))
    return {threads: {name: middle(found) for name, found in names.items()} for threads, names in values.items()}


def _paired(
    measurements: Iterable[Measurement], phase: str, key: Callable[[Measurement], tuple[int, int]]
) -> dict[tuple[int, int], dict[str, Measurement]]:
    found: dict[tuple[int, int], dict[str, Measurement]] = {}
    for one in measurements:
        if one.phase == phase:
            found.setdefault(key(one), {})[one.name] = one
    return found


def figures(measurements: Sequence[Measurement], weight_bytes: int) -> dict[str, object]:
    """Everything that follows from the measurements given, by phase, threads and name; bandwidth in GB/s."""
    bandwidth = {
        threads: middle(one.per_s / 1e9 for one in measurements if one.phase == "bandwidth" and one.threads == threads)
        for threads in (1, 2)
    }
    return {
        **{phase: medians(measurements, phase) for phase in SPEEDS},
        "batch": medians(measurements, "batch"),
        "bandwidth": {str(threads): value for threads, value in bandwidth.items()},
        "ratios": {phase: ratios(measurements, phase) for phase in SPEEDS},
        "share_of_bound": shares_of_bound(measurements, weight_bytes),
    }


def layout(measurements: Sequence[Measurement], weight_bytes: int, more: Mapping[str, object]) -> dict[str, object]:
    """The JSON file: clean medians at the top (None where no figure was clean), `all_rounds`, then every figure."""
    whole = figures(measurements, weight_bytes)
    undisturbed = figures(clean(measurements), weight_bytes)
    return {
        **{key: _filled(undisturbed[key], whole[key]) for key in whole},
        "all_rounds": whole,
        "clean_figures": {phase: counts(measurements, phase) for phase in (*SPEEDS, "batch", "bandwidth")},
        **more,
        "rounds": [one.told() for one in measurements],
    }


def _filled(some: object, every: object) -> object:
    """`some` with None for each key that `every` has beside it."""
    if not isinstance(every, dict):
        return some
    known = some if isinstance(some, dict) else {}
    return {key: _filled(known.get(key), value) for key, value in every.items()}
