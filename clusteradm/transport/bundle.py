"""The node package as one zip, and the few lines that start it on a host.

A zipapp would recompile at every start (seconds on a board). So the zip is sent once, unpacked and byte-compiled to a
directory named by its hash that only root can write, and run from there.
"""

from __future__ import annotations

import functools
import hashlib
import io
import zipfile
from pathlib import Path

import clusteradm

_PACKAGE = Path(clusteradm.__file__).resolve().parent
# The same bytes from the same sources, whenever and wherever they are packed.
_EPOCH = (1980, 1, 1, 0, 0, 0)


@functools.cache
def bundle() -> tuple[str, bytes]:
    """(hash, zip) of `clusteradm/__init__.py` and `clusteradm/node/**`. The hash names the directory on the host."""
    files = [_PACKAGE / "__init__.py", *sorted((_PACKAGE / "node").rglob("*.py"))]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in files:
            info = zipfile.ZipInfo(str(path.relative_to(_PACKAGE.parent)), _EPOCH)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = 0o644 << 16
            archive.writestr(info, path.read_bytes())
    data = buffer.getvalue()
    return hashlib.sha256(data).hexdigest()[:16], data


# Python 3.7. Argument 1: the hash. If the package is not there it says "need" and reads an 8-byte big-endian length and
# the zip; then it says "have" and becomes the node program. Every directory on the way must be root's (or ours, in
# tests) and writable by nobody else. The newest three packages stay.
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
    sys.stdout.write('{"%s": "%s"}\n' % (word, h))
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
    t = tempfile.mkdtemp(dir=top)
    os.chmod(t, 0o755)
    zipfile.ZipFile(io.BytesIO(take(n))).extractall(t)
    compileall.compile_dir(t, quiet=2)
    open(t + "/.complete", "w").close()
    try:
        os.rename(t, d)
    except OSError:
        shutil.rmtree(t)
    old = sorted((x for x in os.listdir(top) if x != h), key=lambda x: -os.stat(top + "/" + x).st_mtime)
    for x in old[2:]:
        shutil.rmtree(top + "/" + x, ignore_errors=True)
if not safe(d):
    sys.exit("clusteradm: " + d + " is not root's alone: refusing to run code from it")
say("have")
sys.path.insert(0, d)
from clusteradm.node.__main__ import main
main()
"""
