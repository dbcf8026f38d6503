"""XDR (RFC 4506): the types that ONC RPC and NFSv4 use."""

import struct

_U32 = struct.Struct(">I")
_U64 = struct.Struct(">Q")


def u32(*numbers):
    return struct.pack(">%dI" % len(numbers), *numbers)


def u64(number):
    return _U64.pack(number)


def opaque(data):
    """Length, bytes, and zeros up to a multiple of four."""
    return _U32.pack(len(data)) + data + b"\0" * (-len(data) % 4)


def bitmap(bits):
    words = [0] * (max(bits) // 32 + 1 if bits else 0)
    for bit in bits:
        words[bit // 32] |= 1 << bit % 32
    return u32(len(words), *words)


class Reader:
    """Reads the values of a reply one after the other."""

    __slots__ = ("data", "place")

    def __init__(self, data):
        self.data = memoryview(data)
        self.place = 0

    def u32(self):
        (value,) = _U32.unpack_from(self.data, self.place)
        self.place += 4
        return value

    def u64(self):
        (value,) = _U64.unpack_from(self.data, self.place)
        self.place += 8
        return value

    def fixed(self, size):
        """A view into the reply, no copy."""
        value = self.data[self.place : self.place + size]
        if len(value) != size:
            raise EOFError("the reply is cut short")
        self.place += size + (-size % 4)
        return value

    def opaque(self):
        return self.fixed(self.u32())

    def bits(self):
        words = [self.u32() for _ in range(self.u32())]
        return [32 * number + bit for number, word in enumerate(words) for bit in range(32) if word >> bit & 1]
