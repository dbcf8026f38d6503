"""Placement of the ranks on hosts and TPUs, and mpirun's hostfile for it."""

from typing import Any, Dict, List, Optional, Sequence


def place(slots: Sequence[Dict[str, Any]], most: Optional[int] = None) -> List[Dict[str, Any]]:
    """The worker ranks, from 1 up, in the order in which mpirun maps them by slot: host after host.

    `slots`: [{"host", "tpus": [{"pci_address"}, ...]}, ...], the head first if it computes. With `most`, no more ranks
    than that, spread over the hosts: every host's first TPU before any host's second.
    """
    rounds = sorted((turn, number) for number, slot in enumerate(slots) for turn in range(len(slot["tpus"])))
    chosen = set(rounds[: len(rounds) if most is None else most])
    ranks: List[Dict[str, Any]] = []
    for number, slot in enumerate(slots):
        for turn, tpu in enumerate(slot["tpus"]):
            if (turn, number) in chosen:
                ranks.append({"rank": len(ranks) + 1, "host": slot["host"], "pci_address": tpu["pci_address"]})
    return ranks


def render_hostfile(head: str, ranks: Sequence[Dict[str, Any]]) -> str:
    """mpirun's hostfile: the head first, with a slot for rank 0 whether or not it has a TPU."""
    slots = {head: 1}
    for rank in ranks:
        slots[rank["host"]] = slots.get(rank["host"], 0) + 1
    return "".join("%s slots=%d\n" % (host, count) for host, count in slots.items())
