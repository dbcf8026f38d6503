"""Signal by which a person finds a host: begun, and waited for."""

from __future__ import annotations

from collections.abc import Callable

from clusteradm.errors import HostFailed
from clusteradm.inventory import Host
from clusteradm.node.spec.wire.locate import BEEP, Locate, Signal
from clusteradm.transport import Connections

_MORE = 30.0  # seconds that a host's answer may take beside the signal


def locate(connections: Connections, host: Host, seconds: float, on_begun: Callable[[str], None]) -> None:
    """Have the host blink or beep for some seconds. `on_begun` is told what it does.

    Raises HostFailed where it has neither LED nor beeper, or they cannot be used.
    """
    replies = connections.node(host).ask(Locate(seconds), timeout=seconds + _MORE)
    while True:
        try:
            signal = next(replies)
        except StopIteration as end:
            if end.value.reason is not None:
                raise HostFailed(f"the signal failed: {end.value.reason}", where=host.name) from None
            return
        if signal.by is None:
            raise _cannot(host, signal)
        what = "beeps" if signal.by == BEEP else f"blinks, by its LED {signal.device}"
        on_begun(f"{what}, for {seconds:g} s")


def _cannot(host: Host, signal: Signal) -> HostFailed:
    there = f"; of /sys/class/leds it has only {', '.join(signal.leds)}" if signal.leds else ""
    where = [
        f"{name.removeprefix('cluster_')} {host.vars[name]}"
        for name in ("cluster_rack", "cluster_slot")
        if name in host.vars
    ]
    step = f"the inventory says: {', '.join(where)}" if where else "find it by its address: its switch knows the port"
    return HostFailed(f"it has no LED of its own, and no beeper{there}", where=host.name, next_step=step)
