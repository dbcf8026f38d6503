"""Free space of the file systems that a host works with: bytes and inodes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from clusteradm.health.finding import Finding, error, ok, warning
from clusteradm.health.reading import Reading
from clusteradm.inventory import Host

CHECK = "disk"
MIN_FREE_BYTES = 200 * 1024**2
MIN_FREE_SHARE = 0.05
# As for bytes: of a large file system's inodes, 5 % are millions.
MIN_INODES = 10_000
# Open MPI 4.1 puts some 4 MB into its session folder.
TMP_BYTES = 8 * 1024**2


@dataclass(frozen=True)
class _Room:
    """Limits of a file system: it is full if less than `free` bytes and less than `share` of its size are free."""

    free: int
    share: float
    remedy: str

    def enough(self, size: float) -> float:
        return min(self.free, self.share * size)


_SYSTEM = _Room(MIN_FREE_BYTES, MIN_FREE_SHARE, "apt-get clean, journalctl --vacuum-size=50M")
_ROOMS = {
    "/": _SYSTEM,
    "/var": _SYSTEM,
    # Holds kernels only; a small one with its initrd takes 30 MB. A Dev Board's /boot has 128 MiB.
    "/boot": _Room(32 * 1024**2, 0.1, "apt-get autoremove --purge (old kernels)"),
}


def judge(host: Host, system: Reading) -> Iterator[Finding]:
    """One finding for each device that is full; one that is ok if none is."""
    disks = system.parts_by_name("disks")
    devices: dict[int | str, list[str]] = {}
    for path, disk in disks.items():
        device = disk.integer("device")
        devices.setdefault(path if device is None else device, []).append(path)
    free, full = [], False
    for path, *others in devices.values():
        size, left, inodes, inodes_left = (disks[path].number(key) for key in ("size", "free", "inodes", "inodes_free"))
        if not size or left is None:
            continue
        rooms = [_room(each) for each in (path, *others)]
        if left < max(room.enough(size) for room in rooms):
            cause = f"{path} has {left / 1e6:.0f} of {size / 1e6:,.0f} MB free"
            remedy = f"make room: {'; '.join(dict.fromkeys(room.remedy for room in rooms))}"
        elif inodes and inodes_left is not None and inodes_left < min(MIN_INODES, MIN_FREE_SHARE * inodes):
            cause = f"{path} has {inodes_left:.0f} of {inodes:,.0f} inodes free"
            remedy = "remove what makes so many small files"
        else:
            free.append(left / size)
            continue
        full = True
        # No job needs /boot; the next kernel does.
        yield (warning if rooms == [_ROOMS["/boot"]] else error)(host.name, CHECK, "FULL", cause, remedy)
    tmp = _tmp(host, system.part("tmp"))
    if tmp is not None:
        yield tmp
    elif not full:
        yield ok(host.name, CHECK, f"{min(free):.0%} free" if free else "n/a")


def _tmp(host: Host, tmp: Reading) -> Finding | None:
    """Finding of a /tmp that the cluster user cannot write to: mpirun and the trials of TPUs cannot start there."""
    reason, free = tmp.text("error"), tmp.number("free")
    if free is not None and free < TMP_BYTES:
        reason = f"it has no space for MPI's files ({free / 1e6:.1f} MB free)"
    # Without that user there is another finding; and slow is not wrong.
    if reason is None or tmp.boolean("timeout") or reason.startswith("there is no user"):
        return None
    remedy = "on the host, as root: chmod 1777 /tmp; or mount it so that all may write"
    if "space" in reason or "quota" in reason:
        remedy = "make room on the host: du -xh /tmp | sort -h | tail, and remove what nobody uses"
    elif "Read-only" in reason:
        remedy = "see dmesg on the host: a card that fails is remounted so; else: mount -o remount,rw /tmp"
    return error(host.name, CHECK, "TMP", f"the cluster user cannot use /tmp: {reason}", remedy)


def _room(path: str) -> _Room:
    """Limits of a system path, else of the shared directory."""
    return _ROOMS.get(path) or _Room(
        MIN_FREE_BYTES,
        MIN_FREE_SHARE,
        f"remove old jobs (clusteradm job list, clusteradm job remove JOB) or models in {path}",
    )
