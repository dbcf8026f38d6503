"""Reports of a rank to rank 0, checked: it runs on another host, which may be broken or lie. That costs it alone."""

from dataclasses import dataclass, field, replace
from typing import Any, Dict, List, Optional, Sequence, Tuple

from clusteradm.node.job.channel import MOST_BYTES
from clusteradm.node.job.channel import MOST_VALUES as MOST_MESSAGE_VALUES
from clusteradm.node.spec import answers
from clusteradm.node.spec.answers import is_score
from clusteradm.node.spec.wire.decode import MOST_TEXT, MOST_VALUES, Record, WireError, anything, decode, limits, loads

MOST_REASON = 2000  # characters of an error that are kept
_MOST_SECONDS = 1e9
# Texts of one result, in characters: an output of text may be as long as the model likes.
MOST_RESULT_TEXT = 1 << 20
# Values of one result: its line is read by others as a document of its own, which has a limit too.
MOST_RESULT_VALUES = MOST_VALUES // 2
_OUTPUT_KEYS = {"name", "shape", "values", "file", "dtype", "scale", "zero_point"}
_MAP_KEYS = {"name", "shape", "file"}


@dataclass(eq=False, repr=False)
class Ready(Record):
    """The rank has loaded the model. `version`: of its library; `tpu`: its device, None for the CPU; `pace`: seconds of
    an inference, 0 where it has made none; `turn`: of its pipeline; `numbers`: of a result, about, at most."""

    version: str = field(metadata=limits(most=200))
    tpu: Any = None
    pace: float = 0.0
    turn: int = 0
    numbers: int = 0


@dataclass(eq=False, repr=False)
class Alive(Record):
    """The rank lives. `kills`: the processes that its host's kernel has ended for lack of memory, as it began."""

    kills: Optional[int] = None


@dataclass(eq=False, repr=False)
class Failure(Record):
    """The rank cannot work. `suspects`: the inputs that it may have failed by; `tpu`: it is its TPU that fails;
    `again`: of a stage, whose worker process has ended, that it can begin anew with its pipeline; `turn`: of that."""

    error: str
    suspects: Tuple[int, ...] = ()
    tpu: bool = False
    again: bool = False
    turn: int = 0


@dataclass(eq=False, repr=False)
class Delivery(Record):
    """The results of a chunk, a JSON list as text, and seconds: of the chunk; of the rank since its start, in the TPU,
    decoding, waiting, reading, without a chunk."""

    chunk: int
    seconds: float
    results: str = field(metadata=limits(most=MOST_BYTES))
    busy: float
    decode: float
    wait: float
    read: float = 0.0
    idle: float = 0.0


def ready(body: Any) -> Ready:
    """A rank's word that it is ready. Raises WireError."""
    report = decode(Ready, body)
    if report.tpu is not None and (type(report.tpu) is not str or len(report.tpu) > 200):
        raise WireError("no name of a device", ".tpu")
    if not 0 <= report.pace <= _MOST_SECONDS:
        raise WireError("no number of seconds", ".pace")
    return report


def alive(body: Any) -> Alive:
    """A rank's word that it lives. Raises WireError."""
    return decode(Alive, {} if body is None else body)


def failure(body: Any) -> Failure:
    """Why a rank cannot work. Raises WireError."""
    report = decode(Failure, body)
    return replace(report, error=report.error[:MOST_REASON])


def delivery(body: Any) -> Delivery:
    """A chunk's results, each of which `result` is to check. Raises WireError."""
    report = decode(Delivery, body)
    for name in ("seconds", "busy", "decode", "wait", "read", "idle"):
        if not 0 <= getattr(report, name) <= _MOST_SECONDS:
            raise WireError("no number of seconds", "." + name)
    return report


def results(text: str, inputs: Sequence[int], outputs: str) -> List[Dict[str, Any]]:
    """The results of a chunk of these `inputs`: one of each, as they go to the journal. Raises WireError.

    `outputs`: the name of the job's folder for large outputs.
    """
    try:
        given = loads(text, MOST_MESSAGE_VALUES)
    except WireError as error:
        raise error.within(".results") from None
    if type(given) is not list:
        raise WireError("expected a list", ".results")
    found: Dict[int, Dict[str, Any]] = {}
    for number, each in enumerate(given):
        try:
            checked = _result(each, outputs)
        except WireError as error:
            raise error.within(".results[%d]" % number) from None
        if checked["i"] in found:
            raise WireError("a second result of input %d" % checked["i"], ".results[%d]" % number)
        found[checked["i"]] = checked
    if found.keys() != set(inputs):
        raise WireError("they are not those of the inputs that it had", ".results")
    return list(found.values())


def _result(given: Any, outputs: str) -> Dict[str, Any]:
    if type(given) is not dict or type(given.get("i")) is not int:
        raise WireError("no result")
    index = given["i"]
    if "error" in given:
        if type(given["error"]) is not str:
            raise WireError("no text", ".error")
        # A text of half a character could not be written.
        error = given["error"][:MOST_REASON].encode("utf-8", "replace").decode("utf-8")
        return {"i": index, "error": error}
    kind = answers.kind(given)
    if kind is None:
        raise WireError("neither an answer that fits its form nor an error")
    found: Dict[str, Any] = {"i": index, kind: given[kind]}
    if answers.SIZE in given:
        found[answers.SIZE] = given[answers.SIZE]
    if kind == answers.OUTPUTS:
        anything(given[kind])
        for number, output in enumerate(given[kind]):
            try:
                _check_output(output, "%s/%06d-%d.npy" % (outputs, index, number))
            except WireError as error:
                raise error.within(".outputs[%d]" % number) from None
        text, values = _size(given[kind])
        if text > MOST_RESULT_TEXT:
            return {"i": index, "error": "its outputs have more than %d characters of text" % MOST_RESULT_TEXT}
        if values > MOST_RESULT_VALUES:
            return {"i": index, "error": "its outputs have more than %d values" % MOST_RESULT_VALUES}
    elif kind == answers.SEGMENTS:
        _check_map(given.get(answers.MAP), "%s/%06d-map" % (outputs, index))
        found[answers.MAP] = given[answers.MAP]
    if "clipped" in given:
        if not is_score(given["clipped"]) or not 0 <= (given["clipped"] or 0) <= 1:
            raise WireError("no share", ".clipped")
        found["clipped"] = given["clipped"]
    return found


def _check_output(output: Any, file: str) -> None:
    """Raise WireError where this is no output tensor, or in another file than `file`."""
    if type(output) is not dict or output.keys() - _OUTPUT_KEYS or type(output.get("name")) is not str:
        raise WireError("no output tensor")
    for text in (output["name"], output.get("dtype", "")):
        if type(text) is not str or len(text) > MOST_TEXT:
            raise WireError("no text of up to %d characters" % MOST_TEXT)
    _check_shape(output.get("shape"))
    if ("values" in output) == ("file" in output):
        raise WireError("either values or a file")
    if "file" in output and (output["file"] != file or type(output.get("dtype")) is not str):
        raise WireError("not the file %s with its type" % file, ".file")
    if not is_score(output.get("scale")) or type(output.get("zero_point", 0)) is not int:
        raise WireError("no scale and zero point", ".scale")


def _check_map(given: Any, file: str) -> None:
    """Raise WireError where this is no map of classes, or in another file than `file` with a suffix."""
    if type(given) is not dict or given.keys() != _MAP_KEYS or type(given["name"]) is not str:
        raise WireError("no map of classes", ".map")
    if len(given["name"]) > MOST_REASON or given["file"] not in (file + ".png", file + ".npy"):
        raise WireError("not the file %s.png" % file, ".map.file")
    _check_shape(given["shape"])


def _check_shape(shape: Any) -> None:
    if type(shape) is not list or not all(type(size) is int and 0 <= size < answers.MOST_CLASS for size in shape):
        raise WireError("no shape", ".shape")


def _size(value: Any) -> Tuple[int, int]:
    """Characters of all texts in a value, and the number of its values."""
    level: Tuple[Any, ...] = (value,)
    size = count = 0
    while level:
        deeper: List[Any] = []
        count += len(level)
        for each in level:
            if type(each) is str:
                size += len(each)
            elif type(each) is list:
                deeper.extend(each)
            elif type(each) is dict:
                deeper.extend(each)
                deeper.extend(each.values())
        level = tuple(deeper)
    return size, count
