"""Request that a host shows or sounds where it is."""

from dataclasses import dataclass, field
from typing import Optional, Tuple

from clusteradm.node.spec.wire import names
from clusteradm.node.spec.wire.decode import Record, limits
from clusteradm.node.spec.wire.request import Streaming

LED, BEEP = "led", "beep"


@dataclass(eq=False, repr=False)
class Signal(Record):
    """What the host begins to do: "led" or "beep", by `device`; None where it has neither. `leds`: those it has."""

    by: Optional[str] = field(default=None, metadata=limits(choices=(LED, BEEP)))
    device: str = ""
    leds: Tuple[str, ...] = ()


@dataclass(eq=False, repr=False)
class Located(Record):
    """The end of the signal; the LED is as it was before. `reason`: why it could not be given."""

    reason: Optional[str] = None


@dataclass(eq=False, repr=False)
class Locate(Streaming[Signal, Located]):
    """Blink or beep for some seconds. `root`: of the file system, another one in tests."""

    seconds: float
    root: str = "/"
    do = names.LOCATE
