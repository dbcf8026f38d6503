"""File attributes of NFSv4 (fattr4, RFC 7530 section 5): decoded and encoded."""

import collections
import stat
import struct

from . import xdr

_KINDS = (0, stat.S_IFREG, stat.S_IFDIR, stat.S_IFBLK, stat.S_IFCHR, stat.S_IFLNK, stat.S_IFSOCK, stat.S_IFIFO)
NOBODY = 65534

Attributes = collections.namedtuple(
    "Attributes", "kind change size handle fileid mode links uid gid space atime ctime mtime"
)


def _owner(reader):
    text = bytes(reader.opaque())
    return int(text) if text.isdigit() else NOBODY


def _time(reader):
    seconds = reader.u64()
    return seconds - (1 << 64) if seconds >> 63 else seconds, reader.u32()


_PARSERS = collections.OrderedDict(
    [
        (1, xdr.Reader.u32),
        (3, xdr.Reader.u64),
        (4, xdr.Reader.u64),
        (19, lambda reader: bytes(reader.opaque())),
        (20, xdr.Reader.u64),
        (33, xdr.Reader.u32),
        (35, xdr.Reader.u32),
        (36, _owner),
        (37, _owner),
        (45, xdr.Reader.u64),
        (47, _time),
        (52, _time),
        (53, _time),
    ]
)
WANTED = xdr.bitmap(list(_PARSERS))
_DEFAULTS = {1: 1, 33: 0o555, 35: 1, 36: NOBODY, 37: NOBODY, 19: b"", 47: (0, 0), 52: (0, 0), 53: (0, 0)}
_ORDER = list(_PARSERS)


def attributes(reader):
    """The attributes of WANTED, from a fattr4."""
    bits = reader.bits()
    end = reader.u32() + reader.place
    if bits == _ORDER:
        values = [parse(reader) for parse in _PARSERS.values()]
    else:
        found = {bit: _PARSERS[bit](reader) for bit in bits}
        values = [found.get(bit, _DEFAULTS.get(bit, 0)) for bit in _ORDER]
    reader.place = end
    values[0] = _KINDS[values[0]]
    return Attributes(*values)


def settings(size=None, mode=None, uid=None, gid=None, atime=None, mtime=None):
    """A fattr4 to set. Times: (seconds, nanoseconds), or True for the server's now."""
    bits, values = [], []
    for bit, value in ((4, size), (33, mode)):
        if value is not None:
            bits.append(bit)
            values.append(xdr.u64(value) if bit == 4 else xdr.u32(value & 0o7777))
    for bit, number in ((36, uid), (37, gid)):
        if number is not None:
            bits.append(bit)
            values.append(xdr.opaque(b"%d" % number))
    for bit, when in ((48, atime), (54, mtime)):
        if when is not None:
            bits.append(bit)
            values.append(xdr.u32(0) if when is True else xdr.u32(1) + struct.pack(">qI", *when))
    return xdr.bitmap(bits) + xdr.opaque(b"".join(values))
