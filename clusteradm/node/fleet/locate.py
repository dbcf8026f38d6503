"""Signal by which a person finds the board: an LED that blinks, else a beep.

Kernel: Documentation/leds/leds-class.rst (trigger, brightness), Documentation/input/event-codes.rst (EV_SND, SND_TONE).
"""

import contextlib
import fcntl
import os
import re
import select
import signal
import struct
import time
from typing import Generator, Iterator, List, Optional

from clusteradm.node.handler import handles
from clusteradm.node.spec.wire.locate import BEEP, LED, Locate, Located, Signal
from clusteradm.node.texts import names, read

_MOST_SECONDS = 600.0
_HALF = 0.15  # seconds that the LED is on, and that it is off
# The first of these that a board has. An LED of a keyboard, a disk or a network card is another's.
_WANTED = ("identify", "locate", "uid", "status", "user", "act", "led", "sys", "heartbeat", "pwr", "power", "")
_NOT = re.compile(
    r"^input\d|::(capslock|numlock|scrolllock|kana|compose|mute|micmute|kbd_backlight)|^mmc\d|^enp|^eth|^wl|phy"
)
_BEEPER = "dev/input/by-path/platform-pcspkr-event-spkr"
# linux/input-event-codes.h
_EV_SND, _SND_TONE, _HERTZ = 0x12, 0x02, 1000


@handles(Locate)
def run(request: Locate) -> Generator[Signal, None, Located]:
    """Give the signal until its time is over; then everything is as before."""
    seconds = min(max(request.seconds, 0.0), _MOST_SECONDS)
    found = leds(request.root)
    beeper = os.path.join(request.root, _BEEPER)
    # On the machine that clusteradm runs on, Ctrl-C ends this program by a signal: not in the middle of what it undoes.
    ended: List[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: ended.append(number))
    try:
        if found:
            with _kept(os.path.join(request.root, "sys/class/leds", found[0])) as folder:
                yield Signal(LED, found[0], tuple(found))
                _blink(folder, seconds, ended)
        elif os.path.exists(beeper):
            yield Signal(BEEP, beeper)
            _beep(beeper, seconds, ended)
        else:
            yield Signal(None, "", tuple(names(os.path.join(request.root, "sys/class/leds"))))
    except OSError as error:
        return Located(str(error))
    finally:
        signal.signal(signal.SIGTERM, before)
    return Located()


def leds(root: str) -> List[str]:
    """The board's own LEDs, the most fitting first."""
    there = [name for name in names(os.path.join(root, "sys/class/leds")) if not _NOT.search(name.lower())]
    return sorted(there, key=lambda name: next(place for place, word in enumerate(_WANTED) if word in name.lower()))


@contextlib.contextmanager
def _kept(folder: str) -> Iterator[str]:
    """The LED, without its trigger; trigger and brightness are as before at the end.

    Raises OSError where it blinks for somebody else: what it shows then is not what it showed before.
    """
    lock = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OSError("it blinks for somebody else now") from None
        trigger = _chosen(read(folder, "trigger") or "")
        brightness = read(folder, "brightness") or "0"
        try:
            if trigger is not None:
                _write(folder, "trigger", "none")
            yield folder
        finally:
            # A trigger sets the brightness itself.
            _write(folder, "brightness", brightness)
            if trigger is not None:
                _write(folder, "trigger", trigger)
    finally:
        os.close(lock)


def _chosen(triggers: str) -> Optional[str]:
    """The one in brackets: "none [heartbeat] timer"."""
    found = re.search(r"\[([^\]]+)\]", triggers)
    return found.group(1) if found else None


def _blink(folder: str, seconds: float, ended: List[int]) -> None:
    most = read(folder, "max_brightness") or "1"
    end = time.monotonic() + seconds
    on, alone = True, False
    while time.monotonic() < end and not alone:
        _write(folder, "brightness", most if on else "0")
        on = not on
        alone = _alone_after(_HALF, ended)


def _beep(device: str, seconds: float, ended: List[int]) -> None:
    end = time.monotonic() + seconds
    tone, alone = _HERTZ, False
    with open(device, "wb", buffering=0) as file:
        try:
            while time.monotonic() < end and not alone:
                file.write(struct.pack("llHHi", 0, 0, _EV_SND, _SND_TONE, tone))
                tone = 0 if tone else _HERTZ
                alone = _alone_after(2 * _HALF, ended)
        finally:
            file.write(struct.pack("llHHi", 0, 0, _EV_SND, _SND_TONE, 0))


def _alone_after(seconds: float, ended: List[int]) -> bool:
    """Let time pass; whether whoever asked has gone meanwhile (Ctrl-C): nobody can write to standard input any more.
    `ended`: signals that have come."""
    poll = select.poll()
    poll.register(0, 0)
    return bool(poll.poll(1000 * seconds) or ended)


def _write(folder: str, name: str, text: str) -> None:
    with open(os.path.join(folder, name), "w") as file:
        file.write(text)
