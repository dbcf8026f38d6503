"""Timeline of a job, timeline.json: how many results came when, and what happened meanwhile."""

from dataclasses import dataclass, field
from typing import Dict, Tuple

from clusteradm.node.spec.wire.decode import Record, WireError, limits

MOST_STEPS = 600  # numbers of a host; where there would be more, each stands for twice as long
FINEST = 0.1  # seconds of a number, of a job that is not long
LONGEST_PAUSE = 60.0  # that counts between two attempts: a head may be off for a week
MOST_EVENTS = 100
MOST_EVENT = 300  # characters
_MOST_STEP = 1 << 30


@dataclass(eq=False, repr=False)
class Event(Record):
    """What happened at a second of the timeline, in words."""

    second: float
    text: str = field(metadata=limits(most=MOST_EVENT))


@dataclass(eq=False, repr=False)
class Timeline(Record):
    """Results by host. Each number is those of `step` seconds, from the first attempt's start on.

    `seconds`: how long it is, with the pauses between attempts, of which each counts for a minute at most; `written`:
    when that was, seconds since 1970.
    """

    step: float
    seconds: float
    written: float
    counts: Dict[str, Tuple[int, ...]]
    events: Tuple[Event, ...] = ()

    def __post_init__(self) -> None:
        if not FINEST <= self.step <= _MOST_STEP:
            raise WireError("no number of seconds", ".step")
        if not 0 <= self.seconds <= self.step * MOST_STEPS:
            raise WireError("no length of a timeline", ".seconds")
        for host, numbers in self.counts.items():
            if len(numbers) > MOST_STEPS or any(number < 0 for number in numbers):
                raise WireError("not up to %d numbers of results" % MOST_STEPS, ".counts[%r]" % host[:80])
        if len(self.events) > MOST_EVENTS:
            raise WireError("more than %d events" % MOST_EVENTS, ".events")
