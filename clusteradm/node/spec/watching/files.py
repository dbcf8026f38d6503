"""Files that come into a folder, each as soon as it is whole.

The kernel says when a file is closed by who has written it, or renamed: then it is whole. It says nothing of what other
machines do in a folder of theirs, nor of files that were there before: those are whole when their size and time of
change have stayed the same for a while. So the folder is looked through as well, now and then.
"""

import errno
import heapq
import os
import re
import stat
import time
from contextlib import suppress
from typing import Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple

from clusteradm.node.spec.watching import inotify
from clusteradm.node.spec.watching.inotify import Event, Inotify

QUIET_SECONDS = 0.1  # after a file was closed: its time may be set yet, as copying programs do
SETTLE_SECONDS = 2.0  # without a change, of a file that nobody has said to be whole
WRITTEN_SECONDS = 60.0  # the same of one that was made here, and not closed
OLD_SECONDS = 10.0  # a file that has not changed for so long when it is found is whole
LOOK_SECONDS = 60.0  # between two looks through the folder
LOOK_REMOTE_SECONDS = 1.0  # the same where the kernel does not hear of what others do
_SHARE = 20  # of the time, at most one part goes to such looks
_AT_ONCE = 1000  # entries of folders, or files that are looked at, in one turn
_CONTROLS = re.compile("[\x00-\x1f\x7f]")  # in a name, which goes to a log
_MOST_SAID = 1000  # reasons that are remembered as said
# File systems of another machine, or of a program.
_REMOTE = ("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "ceph", "glusterfs", "lustre", "afs", "vboxsf", "fuse")


class Found(NamedTuple):
    """A whole file. `name`: below the folder; `changed`: its time of change in ns."""

    name: str
    path: str
    size: int
    changed: int


class WholeFiles:
    """The files below one folder whose name ends in a suffix and does not begin with a dot.

    `known` is asked about each, as it is now (name, size, time of change): whether it was taken before. Folders whose
    name begins with a dot are left out, as are links but those to files in the same folder.
    """

    def __init__(self, top: str, suffixes: Sequence[str], known: Callable[[str, int, int], bool]) -> None:
        self._top, self._suffixes, self._known = top, tuple(suffixes), known
        self._due: Dict[str, float] = {}
        self._heap: List[Tuple[float, str]] = []
        self._sure: Set[str] = set()
        self._written: Set[str] = set()  # made here, and not closed yet
        self._looks: Dict[str, Tuple[int, int]] = {}
        self._folders: Dict[int, str] = {}
        self._said: Set[str] = set()
        self.reasons: List[str] = []  # why something is left out, to be said and removed by the caller
        self.gone = False  # the folder is not there
        self._blind = False  # the kernel does not watch all of it
        try:
            self._events: Optional[Inotify] = Inotify()
        except OSError:
            self._events = None
        self._looking: Optional[Iterator[None]] = None
        self._look_due = self._look_spent = 0.0
        self._again = False  # the look under way may have missed something

    def close(self) -> None:
        """Watch no more."""
        if self._events is not None:
            self._events.close()

    def wait(self, seconds: float) -> None:
        """Wait until there may be something to take, for so many seconds at most."""
        now = time.monotonic()
        ends = [now + seconds, self._look_due, *(due for due, _ in self._heap[:1])]
        left = 0.0 if self._looking else max(0.0, min(ends) - now)
        if self._events is None:
            time.sleep(left)
        elif self._events.wait(left):
            for event in self._events.read():
                self._hear(event)
        self._look()

    def take(self, most: int) -> List[Found]:
        """Whole files that were not taken before, so many at most; some may be left for the next turn."""
        now, found = time.monotonic(), []  # type: float, List[Found]
        for _ in range(_AT_ONCE):
            if len(found) >= most or not self._heap or self._heap[0][0] > now:
                break
            due, name = heapq.heappop(self._heap)
            if self._due.get(name) == due:
                del self._due[name]
                one = self._judge(name)
                if one is not None:
                    found.append(one)
        return found

    def put_back(self, name: str, changed: bool = True) -> None:
        """Take a file again, soon; if it has changed while it was read, when it is whole."""
        if changed:
            self._sure.discard(name)
        else:
            self._sure.add(name)
        self._notice(name, SETTLE_SECONDS if changed else 0.0)

    @property
    def idle(self) -> bool:
        """Whether nothing that was noticed is left to be looked at."""
        return not self._due and self._looking is None

    def _notice(self, name: str, seconds: float) -> None:
        due = time.monotonic() + seconds
        self._due[name] = due
        heapq.heappush(self._heap, (due, name))

    def _wanted(self, name: str) -> bool:
        base = name.rpartition("/")[2]
        return base.lower().endswith(self._suffixes) and not base.startswith(".")

    def _judge(self, name: str) -> Optional[Found]:
        """The file, if it is whole and new; else it is looked at again, or left out."""
        path = os.path.join(self._top, name)
        try:
            about = os.stat(path, follow_symlinks=False)
            if stat.S_ISLNK(about.st_mode):
                self._written.discard(name)
                about = self._behind(path)
        except OSError:  # it has gone
            self._forget(name)
            return None
        if not stat.S_ISREG(about.st_mode):
            self._forget(name)
            self._say(path, "a link, which is followed to a file in the folder alone; or no file")
            return None
        look = (about.st_size, about.st_mtime_ns)
        if self._known(name, *look):
            self._forget(name)
            return None
        before = self._looks.get(name)
        old = time.time() - about.st_mtime > OLD_SECONDS and before is None and name not in self._written
        # Who makes a file may fill it later.
        if look == before or (about.st_size and (old or name in self._sure)):
            self._forget(name)
            return Found(name, path, *look)
        self._looks[name] = look
        self._notice(name, WRITTEN_SECONDS if name in self._written and about.st_nlink == 1 else SETTLE_SECONDS)
        return None

    def _behind(self, link: str) -> os.stat_result:
        """What a link leads to; itself where that is out of the folder. Raises OSError."""
        inside = os.path.realpath(link).startswith(os.path.join(os.path.realpath(self._top), ""))
        return os.stat(link, follow_symlinks=inside)

    def _forget(self, name: str) -> None:
        self._looks.pop(name, None)
        self._sure.discard(name)
        self._written.discard(name)

    def _say(self, path: str, why: str) -> None:
        if path not in self._said and len(self._said) < _MOST_SAID:
            self._said.add(path)
            shown = path.encode("utf-8", "backslashreplace").decode("utf-8")
            self.reasons.append("%s: %s" % (_CONTROLS.sub(lambda found: "\\x%02x" % ord(found.group()), shown), why))

    def _hear(self, event: Event) -> None:
        folder = self._folders.get(event.folder)
        if event.what & (inotify.OVERFLOW | inotify.MOVE_SELF | inotify.DELETE_SELF | inotify.UNMOUNT):
            self._look_due, self._again = 0.0, True
        if event.what & inotify.OVERFLOW:
            self._written.clear()  # that they were closed may be among what was lost
        if event.what & inotify.IGNORED:
            self._folders.pop(event.folder, None)
        if folder is None or not event.name:
            return
        name = os.path.join(folder, event.name)
        if event.what & inotify.IS_FOLDER:
            if event.what & (inotify.CREATE | inotify.MOVED_TO) and not event.name.startswith("."):
                for _ in self._walk(name):
                    pass
        elif self._wanted(name):
            if event.what & (inotify.CLOSE_WRITE | inotify.MOVED_TO):
                self._sure.add(name)
                self._written.discard(name)
                self._looks.pop(name, None)
                self._notice(name, QUIET_SECONDS)
            elif event.what & inotify.CREATE:
                self._written.add(name)
                self._notice(name, SETTLE_SECONDS)

    def _look(self) -> None:
        """Look through the folder where it is time, a part of it in each turn."""
        now = time.monotonic()
        if self._looking is None:
            if now < self._look_due:
                return
            self._look_spent, self._again = 0.0, False
            self._looking = self._walk("")
        for _ in range(_AT_ONCE):
            if next(self._looking, self) is self:
                self._looking = None
                spent = self._look_spent + time.monotonic() - now
                alone = self.gone or self._blind or self._events is None or _remote(self._top)
                every = LOOK_REMOTE_SECONDS if alone else LOOK_SECONDS
                self._look_due = 0.0 if self._again else time.monotonic() + max(every, _SHARE * spent)
                return
        self._look_spent += time.monotonic() - now

    def _walk(self, start: str) -> Iterator[None]:
        """Notice every file below a folder, and watch the folders; yields now and then."""
        waiting = [start]
        while waiting:
            place = waiting.pop()
            path = os.path.join(self._top, place) if place else self._top
            if self._events is not None:
                try:
                    self._folders[self._events.add(path)] = place
                except OSError as error:  # there may be no more watches: then looks are all there is
                    self._blind = self._blind or error.errno == errno.ENOSPC
            try:
                with os.scandir(path) as entries:
                    for entry in entries:
                        yield
                        name = os.path.join(place, entry.name)
                        if entry.name.startswith("."):
                            continue
                        if entry.is_dir(follow_symlinks=False):
                            waiting.append(name)
                        elif name not in self._due and self._wanted(name):
                            self._notice(name, 0.0)
                if not place:
                    self.gone = False
            except OSError as error:
                if not place:
                    self.gone = True
                elif not isinstance(error, FileNotFoundError):
                    self._say(path, "cannot read the folder: %s" % error.strerror)


def _remote(path: str) -> bool:
    """Whether another machine, or a program, may change the files there without this kernel's knowledge."""
    best, kind = "", ""
    real = os.path.realpath(path)
    # OSError: there is no /proc. ValueError: a line that is none.
    with suppress(OSError, ValueError):
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            lines = file.readlines()
        for line in lines:
            fields = line.split(" ")
            where = fields[4].encode("utf-8", "surrogateescape").decode("unicode_escape")
            where = where.encode("latin-1").decode("utf-8", "surrogateescape")
            if (real + "/").startswith(where.rstrip("/") + "/") and len(where) >= len(best):
                best, kind = where, fields[fields.index("-", 6) + 1]
    return kind.partition(".")[0] in _REMOTE
