"""known_hosts: a host's key in a file of known hosts."""

import base64
import hashlib
import hmac
import os
import re
import tempfile
from typing import Any, Dict, List, Optional, Tuple

from clusteradm.node import files, paths
from clusteradm.node.context import Context, ModuleFailed

# Markers before a host name in a line.
_MARKERS = ("@cert-authority", "@revoke")


def run(options: Dict[str, Any], context: Context) -> Dict[str, Any]:
    """Add the key, replacing one of the same type; or remove it, or all of the host's if none is given."""
    host, path, present = options["name"].lower(), options["path"], options["state"] == "present"
    key = options["key"]
    if not key and present:
        raise ModuleFailed("No key specified when adding a host")
    if key:
        key = _hashed(host, key) if options["hash_host"] else key
        key += "" if key.endswith("\n") else "\n"
        _check(host, key, context)
    known, exact, line = _search(host, key, path, context)
    before = files.read(path)
    lines = (before or b"").decode("utf-8", "surrogateescape").splitlines(keepends=True)
    other = known and bool(key) and not exact
    if line is not None and (other or not present):
        del lines[line - 1]
    if present and (other or line is None):
        if lines and not lines[-1].endswith("\n"):
            lines[-1] += "\n"  # Ansible appends to this line, which spoils both keys
        lines.append(key)
    after = "".join(lines).encode("utf-8", "surrogateescape")
    result = dict(options, changed=False)
    if context.diff:
        result["diff"] = files.diff(path, before, after)
        if before is None:
            result["diff"][0]["before_header"] = os.devnull
    unknown = not present and key and line is None
    result["changed"] = not unknown and (other or known != present)
    if result["changed"] and not context.check:
        if not key:
            paths.real(path)  # raises UnsafePath for a link that root does not follow
            done = context.run(["ssh-keygen", "-R", host, "-f", path])
            if done.rc:
                raise ModuleFailed(done.stderr.rstrip(), rc=done.rc)
        else:
            files.write(path, after)
    result.update(files.describe(path))
    return result


def _check(host: str, key: str, context: Context) -> None:
    """Raise ModuleFailed unless ssh-keygen takes the line as one of the host."""
    if re.search(r"\S+(\s+)?,(\s+)?", host):
        raise ModuleFailed(
            "Comma separated list of names is not supported. "
            "Please pass a single name to lookup in the known_hosts file."
        )
    with tempfile.NamedTemporaryFile("w+", encoding="utf-8") as file:
        file.write(key)
        file.flush()
        if not context.run(["ssh-keygen", "-F", host, "-f", file.name]).stdout:
            raise ModuleFailed("Host parameter does not match hashed host field in supplied key")


def _search(host: str, key: Optional[str], path: str, context: Context) -> Tuple[bool, bool, Optional[int]]:
    """(The host is known, by exactly this key, number of the line with this key or one of its type)."""
    if not os.path.exists(path):
        return False, False, None
    done = context.run(["ssh-keygen", "-F", host, "-f", path])
    if not done.stdout and not done.stderr and done.rc in (0, 1):
        return False, False, None
    if done.rc:
        raise ModuleFailed("ssh-keygen failed (rc=%d, stdout='%s',stderr='%s')" % (done.rc, done.stdout, done.stderr))
    if not key:
        return True, False, None
    wanted, number = _fields(key), None
    for said in filter(None, done.stdout.split("\n")):
        place = re.match(r"#.*found: line (\d+)", said)
        if place:
            number = int(place.group(1))
            continue
        has = _fields(said)
        if wanted[1].startswith("|1|") and has[1].startswith("|1|"):
            wanted[1] = has[1]  # every hash of a name has its own salt
        if has == wanted:
            return True, True, number
        if has[2] == wanted[2] and not has[0].startswith(_MARKERS):
            return True, False, number
    return True, False, None


def _fields(line: str) -> List[str]:
    """Marker, host, type and key; without the comment."""
    words = line.split()
    return (words if words[0].startswith("@") else ["", *words])[:4]


def _hashed(host: str, key: str) -> str:
    """The line with the host's name hashed as ssh does."""
    salt = os.urandom(20)
    digest = hmac.new(salt, host.encode("utf-8"), hashlib.sha1).digest()
    fields = key.split()
    fields[fields[0].startswith("@")] = "|1|%s|%s" % tuple(base64.b64encode(part).decode() for part in (salt, digest))
    return " ".join(fields)
