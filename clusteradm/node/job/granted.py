"""TPUs of an allocation: what its hosts say that they have, and which of them Slurm's numbers mean."""

import os
import re
import select
import shlex
import subprocess
import time
from typing import Dict, List, Optional, Sequence, Tuple

from clusteradm.node import usb
from clusteradm.node.job import launch
from clusteradm.node.spec.wire.job import Slot, StoredSpec

_SECONDS = 10.0  # for a host to name its TPUs
_MOST_BYTES = 1 << 17  # of what it says: 256 TPUs take 40 KB
_MOST_TPUS = 256  # of a host
# Of a line of slurmd's, each by itself: a host that answers with something else is not to cost much.
_NAMED = re.compile(r"\bName=tpu\b")
# A device node, or those with numbers, as [0-3,5]; or the file that stands for a USB Accelerator, whose node changes
# (playbooks/slurm.yml).
_FILE = re.compile(
    r"\bFile=(?:/dev/(apex_)(?:(\d{1,4})|\[([0-9,-]{1,200})\])|/[^\s:]{0,200}/(usb:[\d.-]{1,30}))(?:\s|$)"
)
_DEVICE = re.compile(r"device (apex_\d{1,4}) ([0-9a-fA-F]{4,8}:[0-9a-fA-F]{2}:[0-9a-fA-F]{2}\.[0-7])")
_ON_USB = re.compile(r"^usb ([\d.-]{1,30}) ([\w.-]{0,60})$", re.MULTILINE)

# What a host is asked: whether the model can be read there, its TPUs, and which of them Slurm's numbers mean.
_QUESTION = (
    """timeout 5 test -r %s || exit 1
for each in /sys/class/apex/apex_*; do
[ -e $each/device ] && echo device ${each##*/} $(basename $(readlink -f $each/device)); done
for each in /sys/bus/usb/devices/*-*; do
case "$(cat $each/idVendor 2>/dev/null):$(cat $each/idProduct 2>/dev/null)" in
"""
    + "|".join((usb.BOOTLOADER, usb.READY))
    + """) echo usb ${each##*/} "$(basename "$(readlink $each/port/peer)")";; esac; done
PATH=$PATH:/usr/sbin:/sbin timeout 5 slurmd -G 2>&1 | head -n 300; echo here"""
)


def tpus_of(said: str, numbers: Optional[Sequence[int]]) -> List[str]:
    """The addresses of the TPUs with these numbers, by what the host has said; None: all of them.

    A number is the place in slurmd's list of devices (its "Index" is no more than the digits at the end of the file's
    name); where that cannot be had, that of apex_N.
    """
    addresses = dict(_DEVICE.findall(said))
    addresses.update({each: each for each in (usb.address(*found) for found in _ON_USB.findall(said))})
    if numbers is None:
        return sorted(addresses.values())
    listed = [file for line in said.splitlines() if _NAMED.search(line) for file in _FILE.findall(line)]
    files: List[str] = []
    for name, number, several, stick in listed:
        files += [stick or name + each for each in ([number] if not several else map(str, ranged(several)))]
    if not files:
        files = ["apex_%d" % number for number in range(_MOST_TPUS)]
    return [addresses[files[at]] for at in numbers if at < len(files) and files[at] in addresses]


def ranged(text: str) -> Tuple[int, ...]:
    """The numbers of "0-2,5"."""
    found: List[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        if first.isdecimal() and (last or first).isdecimal():
            found += range(int(first), min(int(last or first), int(first) + _MOST_TPUS) + 1)
    return tuple(found[:_MOST_TPUS])


def slots(spec: StoredSpec, tpus: Dict[str, Optional[Tuple[int, ...]]]) -> Tuple[List[Slot], List[str]]:
    """The slots of the spec that the allocation has, and its hosts that answer and see the model. `tpus`: by host, the
    numbers of its TPUs, None where Slurm counts none."""
    question = _QUESTION % shlex.quote(spec.model.path)
    asked = []
    for slot in spec.slots:
        if slot.host in tpus:
            words = ["sh", "-c", question] if slot.host == spec.head else [*launch.SSH, slot.host, question]
            process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
            asked.append((slot, process))
    end = time.monotonic() + _SECONDS
    found, answers = [], []
    for slot, process in asked:
        said = _answer(process, end)
        if not said.endswith("here\n"):
            continue
        answers.append(slot.host)
        given = tpus_of(said, tpus[slot.host])
        mine = tuple(tpu for tpu in slot.tpus if tpu is None or tpu in given)
        if mine:
            found.append(Slot(slot.host, mine))
    return found, answers


def _answer(process: "subprocess.Popen[bytes]", end: float) -> str:
    """What the process has said when it has ended well; "" where it fails, is late, or says too much."""
    data = b""
    with process.stdout or open(os.devnull, "rb") as pipe:
        poll = select.poll()
        poll.register(pipe, select.POLLIN)
        while len(data) <= _MOST_BYTES and poll.poll(max(0.0, end - time.monotonic()) * 1000):
            piece = os.read(pipe.fileno(), 1 << 16)
            if not piece:
                return data.decode("utf-8", "replace") if process.wait() == 0 else ""
            data += piece
    process.kill()
    process.wait()
    return ""
