"""Kinds of faults that the lab can cause on a board or on one of its Edge TPUs. Pure data; `faults` does them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FaultKind:
    """`tpu`: a fault of single Edge TPUs, not of the board. `lasting`: a reboot does not undo it."""

    summary: str
    tpu: bool = False
    lasting: bool = False


FAULTS = {
    "cut": FaultKind("its network cables are pulled", lasting=True),
    "freeze": FaultKind("every process stops, with its connections open"),
    "power": FaultKind("its power is cut"),
    "hot": FaultKind("an Edge TPU is above its second trip point", tpu=True, lasting=True),
    "wedged": FaultKind("an Edge TPU does not answer, though its status is ALIVE", tpu=True, lasting=True),
    "lamed": FaultKind("an Edge TPU has no interrupts", tpu=True, lasting=True),
    "absent": FaultKind("an Edge TPU is not on the bus", tpu=True, lasting=True),
    "permission": FaultKind("/dev/apex_N is for root alone, until udev is triggered", tpu=True),
    "busy": FaultKind("a process on the board has the Edge TPU open", tpu=True),
    "disk": FaultKind("/var is full"),
    "nfs": FaultKind("its NFS server does not answer: mounts of it hang"),
    "address": FaultKind("it has the head's cluster address too (the head: that of w1)"),
    "sshd": FaultKind("its sshd is stopped; open connections continue"),
}
