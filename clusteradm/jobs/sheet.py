"""Sheet of a report: some of a job's pictures with what was found in them, and why inputs have no result."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from clusteradm.errors import ClusteradmError
from clusteradm.jobs import annotate
from clusteradm.jobs.inputs import File
from clusteradm.node.spec.wire.result import Result

MOST_PICTURES = 24
SIDE = 320  # pixels
MOST_REASONS = 20
_MOST_NAMES = 5
_MOST_TEXT = 300  # characters of a reason or a caption
_OTHERS = "other reasons"


@dataclass(frozen=True)
class Picture:
    """One picture. `caption`: what was found, in words; `jpeg`: None where it cannot be drawn, and `why`; `side`: its
    longer one, in pixels."""

    name: str
    caption: str
    jpeg: bytes | None
    why: str = ""
    side: int = 0


@dataclass
class Failure:
    """A reason for which inputs have no result. `names`: the first of them."""

    reason: str
    count: int
    names: list[str]


def failures(results: Iterable[Result]) -> list[Failure]:
    """Why inputs have no result, the most frequent reason first; rare ones together, where there are many."""
    found: dict[str, Failure] = {}
    for result in results:
        if result.error is None:
            continue
        reason = " ".join(result.error.split())[:_MOST_TEXT]
        if reason not in found and len(found) >= MOST_REASONS - 1:
            reason = _OTHERS
        failure = found.setdefault(reason, Failure(reason, 0, []))
        failure.count += 1
        if len(failure.names) < _MOST_NAMES:
            failure.names.append(result.input)
    return sorted(found.values(), key=lambda failure: (failure.reason == _OTHERS, -failure.count))


def pictures(
    results: Callable[[], Iterable[Result]], files: Mapping[str, File], fetch: annotate.Fetch
) -> Iterator[Picture]:
    """Up to MOST_PICTURES of the pictures, evenly over the inputs. `files`: those of this machine, by the name of
    the input; `fetch` copies a file of the job."""

    def shown(result: Result) -> bool:
        file = files.get(result.input)
        return result.error is None and file is not None and annotate.is_picture(file)

    count = sum(map(shown, results()))
    wanted = {count * number // min(count, MOST_PICTURES) for number in range(min(count, MOST_PICTURES))}
    chosen = (result for number, result in enumerate(filter(shown, results())) if number in wanted)
    for result in chosen:
        try:
            jpeg, side = annotate.thumbnail(result, files[result.input], fetch, SIDE)
        except ClusteradmError as error:
            yield Picture(result.input, caption(result), None, error.what[:_MOST_TEXT])
        else:
            yield Picture(result.input, caption(result), jpeg, side=side)


def caption(result: Result) -> str:
    """What was found in a picture, in a few words."""
    if result.top:
        return _words(result.top[0].get("label"), result.top[0].get("class"), result.top[0].get("score"))
    if result.objects:
        counted = Counter(_words(one.get("label"), one.get("class")) for one in result.objects)
        return ", ".join(f"{number} {name}" for name, number in counted.most_common(3))[:_MOST_TEXT]
    if result.segments:
        parts = (_words(one.get("label"), one.get("class"), one.get("share")) for one in result.segments[:3])
        return ", ".join(parts)[:_MOST_TEXT]
    if result.poses:
        return f"{len(result.poses)} pose" + ("" if len(result.poses) == 1 else "s")
    return "" if result.embedding or result.outputs else "nothing found"


def _words(label: object, number: object, score: object = None) -> str:
    name = " ".join(str(label).split()) if label else f"class {number}"
    return name[:_MOST_TEXT] + (f" {score:.2f}" if isinstance(score, float) else "")
