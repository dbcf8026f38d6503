"""The node package as one zip, and the launcher that starts it on a host.

A zipapp would recompile at every start (seconds on a board). So the zip is sent once, unpacked and byte-compiled to a
directory named by its hash that only root can write, and run from there.
"""

from __future__ import annotations

import functools
import hashlib
import io
import threading
import zipfile
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]
# The same bytes from the same sources, whenever and wherever they are packed.
_EPOCH = (1980, 1, 1, 0, 0, 0)


# The threads of all hosts ask at the same time: one computes it, the others wait.
_once = threading.Lock()


def digest() -> str:
    """The hash of `clusteradm/__init__.py` and `clusteradm/node/**`, 16 hex digits: their directory's name on the host.

    Computed from names and contents, not from the zip: another zlib compresses the same files to other bytes.
    """
    with _once:
        return _digest()


def archive() -> bytes:
    """The same files as a zip, packed when the first host needs them."""
    with _once:
        return _archive()


@functools.cache
def _contents() -> dict[str, bytes]:
    files = [_PACKAGE / "__init__.py", *sorted((_PACKAGE / "node").rglob("*.py"))]
    return {path.relative_to(_PACKAGE.parent).as_posix(): path.read_bytes() for path in files}


@functools.cache
def _digest() -> str:
    whole = hashlib.sha256()
    for name, content in _contents().items():
        whole.update(f"{name}\0{len(content)}\0".encode() + content)
    return whole.hexdigest()[:16]


@functools.cache
def _archive() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in _contents().items():
            info = zipfile.ZipInfo(name, _EPOCH)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = 0o644 << 16
            packed.writestr(info, content)
    return buffer.getvalue()


# Isolated mode (-I): nothing is imported from the login's directory or environment, which another user owns.
# Without the site module (-S), which the standard library does not need, it starts in 32 ms instead of 37.
START = ("-I", "-S", "-c")
# Python 3.7. Argument 1: the hash. Without the package it writes "need" and reads an 8-byte big-endian length and the
# zip; then it writes "have" and becomes the node program. Every directory of the path must belong to root (in tests: to
# the user who runs them) and be writable by nobody else. The three packages used last are kept.
LAUNCHER = r"""
import os, sys
h = sys.argv[1]
state = os.environ.get("CLUSTERADM_STATE", "/var/lib/clusteradm")
top = state + "/node"
d = top + "/" + h
def safe(p):
    s = os.lstat(p)
    return s.st_uid == os.geteuid() and not s.st_mode & 0o022 and not os.path.islink(p)
def say(word):
    # On a line of its own: what a login's start-up files print may lack the end of its line.
    sys.stdout.write('\n{"%s": "%s"}\n' % (word, h))
    sys.stdout.flush()
def take(n):
    b = b""
    while len(b) < n:
        p = os.read(0, n - len(b))
        if not p:
            sys.exit("clusteradm: the input ended in the middle of the package")
        b += p
    return b
os.umask(0o022)
os.makedirs(top, exist_ok=True)
if not (safe(state) and safe(top)):
    sys.exit("clusteradm: " + top + " is not root's alone: refusing to run code from it")
if not os.path.exists(d + "/.complete"):
    import compileall, io, shutil, struct, tempfile, zipfile
    say("need")
    n, = struct.unpack(">Q", take(8))
    b = take(n)
    t = tempfile.mkdtemp(prefix="new-", dir=top)
    try:
        os.chmod(t, 0o755)
        zipfile.ZipFile(io.BytesIO(b)).extractall(t)
        compileall.compile_dir(t, quiet=2)
        # On the disk before it counts as complete: after a power cut there must be no empty files under this name.
        os.sync()
        open(t + "/.complete", "w").close()
        if not os.path.exists(d + "/.complete"):
            shutil.rmtree(d, ignore_errors=True)
        os.rename(t, d)
    except OSError:
        if not os.path.exists(d + "/.complete"):
            raise
    finally:
        shutil.rmtree(t, ignore_errors=True)
    old = sorted((x for x in os.listdir(top) if x != h), key=lambda x: -os.stat(top + "/" + x).st_mtime)
    import glob
    used = ""
    # A job's supervisor, which is started again after a crash, and its ranks.
    for unit in glob.glob("/run/systemd/transient/clusteradm-job-*.service"):
        try:
            used += open(unit, errors="replace").read()
        except OSError:
            pass
    for x in old[2:]:
        if x not in used:
            shutil.rmtree(top + "/" + x, ignore_errors=True)
else:
    os.utime(d)
if not safe(d):
    sys.exit("clusteradm: " + d + " is not root's alone: refusing to run code from it")
say("have")
sys.path.insert(0, d)
from clusteradm.node.__main__ import main
main()
"""
