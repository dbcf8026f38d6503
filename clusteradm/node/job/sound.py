"""WAV files among a job's inputs: 16-bit PCM, found by their headers (RIFF; Microsoft's multimedia data standards).

Without numpy, as this runs on the head's own Python. The bytes are not trusted: no size is believed before it is
compared with the file's.
"""

import struct
from typing import BinaryIO, NamedTuple, Tuple

from clusteradm.node.spec.npy import Damaged, Unusable

_PCM, _EXTENSIBLE = 1, 0xFFFE
_OPEN = (0, 0xFFFFFFFF)  # sizes of what was written to a pipe
_OPEN_FROM = 0x7FFFF000  # the same of programs that count with a sign, less what is before the samples (SoX, arecord)
_MOST_CHUNKS = 1000
_MOST_CHANNELS = 64
_MOST_FORMAT = 4096  # bytes of a "fmt " chunk; the longest known has 40


class Sound(NamedTuple):
    """Samples of 16 bits. `rate`: frames a second; `start`: offset of the first; `frames`: samples of each channel."""

    channels: int
    rate: int
    start: int
    frames: int

    @property
    def frame(self) -> int:
        """Bytes of a frame."""
        return 2 * self.channels


def header(file: BinaryIO, size: int) -> Sound:
    """Read the header of a file of `size` bytes. Raises Unusable."""
    start = file.read(12)
    if len(start) < 12 or start[:4] != b"RIFF" or start[8:] != b"WAVE":
        raise Damaged("it has not the header of a WAV file")
    about = b""
    at = 12
    for _ in range(_MOST_CHUNKS):
        file.seek(min(at, size))
        chunk = file.read(8)
        if len(chunk) < 8:
            break
        kind, length = chunk[:4], int(struct.unpack("<I", chunk[4:])[0])
        at += 8
        if kind == b"fmt ":
            about = file.read(min(length, _MOST_FORMAT))
        elif kind == b"data":
            channels, rate = _format(about)
            if length in _OPEN or length >= _OPEN_FROM:
                length = size - at
            if at + length > size:
                raise Damaged("it is cut short")
            return Sound(channels, rate, at, length // (2 * channels))
        at += length + length % 2
    raise Damaged("it has no samples, or is cut short")


def _format(about: bytes) -> Tuple[int, int]:
    """Channels and frames a second of a "fmt " chunk."""
    if len(about) < 16:
        raise Damaged("its samples come before their format")
    tag, channels, rate, _, _, bits = struct.unpack("<HHIIHH", about[:16])
    if tag == _EXTENSIBLE and len(about) >= 26:
        tag = struct.unpack("<H", about[24:26])[0]
    if tag != _PCM or bits != 16:
        raise Unusable("its samples are of the kind %d with %d bits: convert it to 16-bit PCM" % (tag, bits))
    if not 1 <= channels <= _MOST_CHANNELS or not rate:
        raise Damaged("it has %d channels of %d samples/s" % (channels, rate))
    return int(channels), int(rate)
