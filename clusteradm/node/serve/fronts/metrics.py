"""Metrics of a board's server, in Prometheus' text format, summed over its front processes.

Each front process counts for itself, and writes its counts to a file in the folder that all of them share, once a
second; the one that is asked adds the others' to its own. A front process that is started again goes on from its file,
so that no counter ever falls.
"""

import bisect
import os
from typing import Any, Callable, Dict, Iterable, List, NamedTuple, Optional, Sequence, Tuple

import orjson

from clusteradm.node import atomic
from clusteradm.node.serve.plane import Answer
from clusteradm.node.spec.wire.serving import AVAILABLE, REQUEST_SECONDS, BoardState, EngineState, ModelTraffic

# Upper bounds of the histogram of the requests of an inference.
SIZES = (1, 2, 4, 8, 16, 32, 64)
_MOST_SERIES = 2000  # of one kind; more models than a board holds
_MOST_FILE = 1 << 22


class Family(NamedTuple):
    """Metrics of one name."""

    kind: str
    labels: Tuple[str, ...]
    meaning: str


_MODEL, _TPU = ("model", "version"), ("tpu",)
FAMILIES = {
    "requests_total": Family("counter", (*_MODEL, "protocol", "outcome"), "Requests: ok, or by the kind of error."),
    "request_seconds": Family("histogram", _MODEL, "Time from the first byte of a request to its answer."),
    "queue_seconds_total": Family("counter", _MODEL, "Time that requests waited for a TPU or the CPU."),
    "inference_seconds_total": Family("counter", (*_MODEL, "tpu"), "Time of the inferences."),
    "inferences_total": Family("counter", (*_MODEL, "tpu"), "Requests that were inferred."),
    "batch_size": Family("histogram", _MODEL, "Requests that the inference of a request answered."),
    "received_bytes_total": Family("counter", ("model", "protocol"), "Bytes of the bodies of requests."),
    "sent_bytes_total": Family("counter", ("model", "protocol"), "Bytes of the bodies of answers."),
    "version_available": Family("gauge", _MODEL, "Whether a version is available here."),
    "version_load_seconds": Family("gauge", _MODEL, "Time that the version took to load."),
    "version_inference_seconds": Family("gauge", _MODEL, "Time of one inference, as measured when it was loaded."),
    "version_swap_seconds": Family("gauge", _MODEL, "Time that an inference takes more after one of another model."),
    "engine_ready": Family("gauge", _TPU, "Whether the engine of a TPU, or of the CPU, takes requests."),
    "engine_queued": Family("gauge", _TPU, "Requests that wait for an engine."),
    "engine_requests_total": Family("counter", _TPU, "Requests that an engine has answered."),
    "engine_busy_seconds_total": Family("counter", _TPU, "Time of all inferences of an engine."),
    "engine_swaps_total": Family("counter", _TPU, "Inferences after one of another model on the same TPU."),
    "engine_swap_seconds_total": Family("counter", _TPU, "Time that those took more than others of their models."),
    "tpu_temperature_celsius": Family("gauge", _TPU, "Temperature of a TPU."),
    "tpu_clock_hertz": Family("gauge", _TPU, "Clock of a TPU, as its driver sets it by the temperature."),
    "balanced": Family("gauge", (), "Whether this board wants new requests."),
    "desired_revision": Family("gauge", (), "Revision of the desired state that this board has followed."),
    "connections": Family("gauge", (), "Connections over HTTP of the front process that was asked."),
}
PREFIX = "clusteradm_serve_"
_BOUNDS = {"request_seconds": REQUEST_SECONDS, "batch_size": SIZES}
# Counters that front processes keep; the others are what the board says of itself.
_COUNTED = (
    "requests_total",
    "queue_seconds_total",
    "inference_seconds_total",
    "inferences_total",
    "received_bytes_total",
    "sent_bytes_total",
)

Key = Tuple[str, ...]
Counts = Dict[str, Dict[Key, List[float]]]


class Metrics:
    """Counts of one front process, `number` of those that share `folder`."""

    def __init__(self, folder: str, number: int) -> None:
        self._folder, self._own = folder, "front-%d.json" % number
        self._counts: Counts = _read(os.path.join(folder, self._own))
        self._changed = False
        self.connections: Callable[[], int] = lambda: 0  # how many there are
        self.settle: Callable[[], None] = lambda: None  # has what is not counted yet counted

    def request(
        self,
        model: str,
        protocol: str,
        outcome: str,
        seconds: float,
        answer: Optional[Answer],
        received: int,
        sent: int,
    ) -> None:
        """Count a request. `model`: "" where none is served by that name."""
        self._changed = True
        version = str(answer.version) if answer is not None else ""
        add = self._add
        add("requests_total", (model, version, protocol, outcome), 1)
        add("received_bytes_total", (model, protocol), received)
        add("sent_bytes_total", (model, protocol), sent)
        if answer is None:
            return
        self._observe("request_seconds", REQUEST_SECONDS, (model, version), seconds)
        add("queue_seconds_total", (model, version), answer.queued_seconds)
        add("inference_seconds_total", (model, version, answer.device), answer.seconds)
        add("inferences_total", (model, version, answer.device), 1)
        self._observe("batch_size", SIZES, (model, version), answer.batch)

    def save(self) -> None:
        """Write the counts for the other front processes."""
        self.settle()
        if self._changed:
            self._changed = False
            document = {
                name: [[*key, values] for key, values in series.items()] for name, series in self._counts.items()
            }
            with atomic.replacing(os.path.join(self._folder, self._own), mode=0o644, durable=False) as file:
                file.write(orjson.dumps(document))

    def whole(self) -> Counts:
        """The counts of all front processes."""
        self.settle()
        found: Counts = {}
        for counts in [self._counts, *self._others()]:
            for name, series in counts.items():
                into = found.setdefault(name, {})
                for key, values in series.items():
                    have = into.get(key)
                    into[key] = list(values) if have is None else [one + other for one, other in zip(have, values)]
        return found

    def requests(self) -> Dict[str, float]:
        """Requests that were answered, by "MODEL VERSION"."""
        found: Dict[str, float] = {}
        for (model, version, _, outcome), values in self.whole().get("requests_total", {}).items():
            if outcome == "ok" and version:
                name = "%s %s" % (model, version)
                found[name] = found.get(name, 0.0) + values[0]
        return found

    def text(self, state: BoardState) -> bytes:
        """All of it, and what the board says of itself."""
        counts = self.whole()
        lines: List[str] = []
        write = _Writer(lines)
        for name, family in FAMILIES.items():
            series = sorted(counts.get(name, {}).items())
            if name in _BOUNDS:
                write.histogram(name, _BOUNDS[name], series)
            elif name in _COUNTED:
                write.family(name, ((dict(zip(family.labels, key)), values[0]) for key, values in series))
        versions = [({"model": each.name, "version": str(each.version)}, each) for each in state.versions]
        write.family("version_available", ((labels, float(each.state == AVAILABLE)) for labels, each in versions))
        for name, values in (
            ("version_load_seconds", [each.load_seconds for _, each in versions]),
            ("version_inference_seconds", [each.seconds for _, each in versions]),
            ("version_swap_seconds", [each.swap_seconds for _, each in versions]),
        ):
            known = ((labels, value) for (labels, _), value in zip(versions, values) if value is not None)
            write.family(name, known)
        engines = [(_engine(each), each) for each in state.engines]
        write.family("engine_ready", ((labels, float(each.state == "ready")) for labels, each in engines))
        write.family("engine_queued", ((labels, float(each.queued)) for labels, each in engines))
        write.family("engine_requests_total", ((labels, float(each.requests)) for labels, each in engines))
        write.family("engine_busy_seconds_total", ((labels, each.busy_seconds) for labels, each in engines))
        write.family("engine_swaps_total", ((labels, float(each.swaps)) for labels, each in engines))
        write.family("engine_swap_seconds_total", ((labels, each.swap_seconds) for labels, each in engines))
        warm = ((labels, each.temperature) for labels, each in engines)
        write.family("tpu_temperature_celsius", ((labels, value) for labels, value in warm if value is not None))
        clocks = ((labels, each.megahertz) for labels, each in engines)
        write.family("tpu_clock_hertz", ((labels, value * 1e6) for labels, value in clocks if value is not None))
        write.family("balanced", [({}, float(state.balance))])
        write.family("desired_revision", [({}, float(state.revision))])
        write.family("connections", [({}, float(self.connections()))])
        return ("\n".join(lines) + "\n").encode("utf-8")

    def _add(self, name: str, key: Key, value: float) -> None:
        series = self._counts.setdefault(name, {})
        found = series.get(key)
        if found is not None:
            found[0] += value
        elif len(series) < _MOST_SERIES:
            series[key] = [value]

    def _observe(self, name: str, bounds: Sequence[float], key: Key, value: float) -> None:
        """Histogram: one count a bucket, the last for what is above all bounds, and the sum."""
        series = self._counts.setdefault(name, {})
        found = series.get(key)
        if found is None:
            if len(series) >= _MOST_SERIES:
                return
            found = series[key] = [0.0] * (len(bounds) + 2)
        found[bisect.bisect_left(bounds, value)] += 1
        found[-1] += value

    def _others(self) -> Iterable[Counts]:
        try:
            names = sorted(os.listdir(self._folder))
        except OSError:
            return
        for name in names:
            if name.startswith("front-") and name.endswith(".json") and name != self._own:
                yield _read(os.path.join(self._folder, name))


def busy(counts: Counts) -> Dict[Tuple[str, str], float]:
    """Seconds of inferences, by model and version."""
    found: Dict[Tuple[str, str], float] = {}
    for (model, version, _), values in counts.get("inference_seconds_total", {}).items():
        found[model, version] = found.get((model, version), 0.0) + values[0]
    return found


def traffic(counts: Counts, models: Iterable[str]) -> Tuple[ModelTraffic, ...]:
    """The requests of these models, of all versions and protocols. A request that is refused has any name there is."""
    found = {model: ModelTraffic(model) for model in models}
    for (model, _, _, outcome), values in counts.get("requests_total", {}).items():
        if model in found:
            outcomes = found[model].outcomes
            outcomes[outcome] = outcomes.get(outcome, 0) + int(values[0])
    for (model, _), values in counts.get("request_seconds", {}).items():
        its = found.get(model)
        if its is not None and len(values) == len(its.times) + 1:
            its.times = tuple(one + int(other) for one, other in zip(its.times, values))
            its.seconds += values[-1]
    return tuple(found[model] for model in sorted(found))


def _engine(state: EngineState) -> Dict[str, str]:
    labels = {"tpu": state.pci_address or state.servables or "cpu"}
    return dict(labels, simulated="true") if state.simulated else labels


class _Writer:
    """Lines of the text format (version 0.0.4)."""

    def __init__(self, lines: List[str]) -> None:
        self._lines = lines

    def family(self, name: str, samples: Iterable[Tuple[Dict[str, str], float]]) -> None:
        self._head(name)
        self._lines += ["%s%s%s %s" % (PREFIX, name, _labels(labels), _value(value)) for labels, value in samples]

    def histogram(self, name: str, bounds: Sequence[float], series: Sequence[Tuple[Key, List[float]]]) -> None:
        self._head(name)
        for key, values in series:
            if len(values) != len(bounds) + 2:
                continue
            known, whole = dict(zip(FAMILIES[name].labels, key)), 0.0
            for bound, count in zip([*map(_value, bounds), "+Inf"], values):
                whole += count
                self._lines.append("%s%s_bucket%s %s" % (PREFIX, name, _labels(dict(known, le=bound)), _value(whole)))
            self._lines.append("%s%s_sum%s %s" % (PREFIX, name, _labels(known), _value(values[-1])))
            self._lines.append("%s%s_count%s %s" % (PREFIX, name, _labels(known), _value(whole)))

    def _head(self, name: str) -> None:
        kind, _, meaning = FAMILIES[name]
        self._lines += ["# HELP %s%s %s" % (PREFIX, name, meaning), "# TYPE %s%s %s" % (PREFIX, name, kind)]


def _labels(labels: Dict[str, str]) -> str:
    if not labels:
        return ""
    return "{%s}" % ",".join('%s="%s"' % (name, _escaped(value)) for name, value in labels.items())


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _value(value: float) -> str:
    return repr(round(value, 9)) if value != int(value) else str(int(value))


def _read(path: str) -> Counts:
    """What a front process wrote; nothing where that is damaged."""
    try:
        with open(path, "rb") as file:
            document: Any = orjson.loads(file.read(_MOST_FILE))
        return {
            str(name): {tuple(map(str, each[:-1])): [float(value) for value in each[-1]] for each in series}
            for name, series in document.items()
            if name in FAMILIES
        }
    except (OSError, ValueError, TypeError, AttributeError, IndexError):
        return {}
