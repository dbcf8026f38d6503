"""A DHCP server for boards under test: `dhcp.py INTERFACE MAC=ADDRESS...` leases each its address, in a /24."""

from __future__ import annotations

import socket
import struct
import sys

_HEADER, _MAGIC = struct.Struct("!4BI2H4s4s4s4s16s192s"), bytes((99, 130, 83, 99))
_TYPE, _LEASE, _SERVER, _MASK, _END = 53, 51, 54, 1, 255
_OFFER_FOR = {1: 2, 3: 5}  # discover: offer; request: acknowledge


def reply(request: bytes, given: dict[str, str], server: str) -> bytes | None:
    """What RFC 2131 says to one packet; None where it is not for this server."""
    fields = _HEADER.unpack_from(request)
    address = given.get(fields[11][:6].hex(":"))
    options, at = {}, _HEADER.size + len(_MAGIC)
    while at < len(request) and request[at] != _END:
        if request[at]:  # 0 is padding, and has no length
            options[request[at]] = request[at + 2 : at + 2 + request[at + 1]]
            at += request[at + 1] + 1
        at += 1
    kind = _OFFER_FOR.get(options.get(_TYPE, b"\0")[0])
    if address is None or kind is None:
        return None
    nobody, own = bytes(4), socket.inet_aton(server)
    header = _HEADER.pack(2, 1, 6, 0, *fields[4:7], nobody, socket.inet_aton(address), own, nobody, *fields[11:])
    said = {_TYPE: bytes([kind]), _SERVER: own, _LEASE: struct.pack("!I", 3600), _MASK: bytes((255, 255, 255, 0))}
    return header + _MAGIC + b"".join(bytes([key, len(value)]) + value for key, value in said.items()) + bytes([_END])


def serve(interface: str, given: dict[str, str]) -> None:
    """For ever."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as door:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        door.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
        door.bind(("", 67))
        server = next(iter(given.values())).rpartition(".")[0] + ".254"
        while True:
            answer = reply(door.recv(4096), given, server)
            if answer:
                door.sendto(answer, ("255.255.255.255", 68))


if __name__ == "__main__":
    serve(sys.argv[1], dict(word.split("=") for word in sys.argv[2:]))
