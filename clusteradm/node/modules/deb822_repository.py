"""deb822_repository: a package source in deb822 format, in a file of its own."""

import os
import re
import urllib.request
from typing import Any, Dict, Optional, Tuple
from urllib.parse import urlparse

from clusteradm.node import files
from clusteradm.node.context import Context, ModuleFailed

_FOLDER = "/etc/apt/sources.list.d"
_KEYS = "/etc/apt/keyrings"
_TYPES = ("deb", "deb-src")
# Options that are not fields of the format.
_OURS = ("mode", "state", "signed_by")


def run(options: Dict[str, Any], context: Context) -> Dict[str, Any]:
    """Add the source and its key, or remove both."""
    slug = re.sub("[^a-z0-9-]+", "", re.sub(r"[_\s]+", "-", options["name"].lower()))
    dest = os.path.join(_FOLDER, slug + ".sources")
    keys = [os.path.join(_KEYS, "%s.%s" % (slug, ending)) for ending in ("asc", "gpg")]
    if options["state"] == "absent":
        there = [path for path in (dest, *keys) if os.path.exists(path)]
        if not context.check:
            for path in there:
                os.unlink(path)
        return {"changed": bool(there), "repo": None, "dest": dest, "key_filename": keys[1]}
    wrong = [kind for kind in options["types"] if kind not in _TYPES]
    if wrong:
        raise ModuleFailed(
            "value of types must be one or more of: %s. Got no match for: %s" % (", ".join(_TYPES), wrong[0])
        )
    fields = {name: _value(value) for name, value in options.items() if value is not None and name not in _OURS}
    changed, key = False, None
    if options["signed_by"] is not None:
        changed, key = _key(options["signed_by"], keys, context)
        fields["signed_by"] = key or options["signed_by"]
    repo = "".join("%s:%s\n" % (_field(name), _indented(fields[name])) for name in sorted(fields))
    result: Dict[str, Any] = {"changed": changed, "repo": repo, "dest": dest, "key_filename": key}
    if files.read(dest) != repo.encode("utf-8"):
        result["changed"] = True
        if not context.check:
            files.write(dest, repo.encode("utf-8"))
    mode = 0o644 if options["mode"] is None else options["mode"]
    if files.attributes(dest, {"owner": None, "group": None, "mode": mode}, context.check):
        result["changed"] = True
    return result


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return " ".join(str(part) for part in value) if isinstance(value, list) else str(value)


def _field(name: str) -> str:
    special = {"name": "X-Repolib-Name", "uris": "URIs"}
    return special.get(name) or name.replace("_", "-").title()


def _indented(value: str) -> str:
    """A field's value; lines of a longer one go below the field, an empty one as a dot."""
    if "\n" not in value:
        return " " + value
    return "\n" + "\n".join("    " + (line.strip() or ".") for line in value.strip().splitlines())


def _key(signed_by: str, keys: Any, context: Context) -> Tuple[bool, Optional[str]]:
    """Fetch the key, if it is a URL. Returns whether that is a change, and the file for Signed-By."""
    if os.path.isfile(signed_by):
        return False, signed_by
    if not urlparse(signed_by).scheme:
        return False, None
    try:
        with urllib.request.urlopen(signed_by, timeout=30) as answer:  # noqa: S310 - whatever the administrator names
            data = answer.read()
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise ModuleFailed("cannot fetch the signed_by key %s: %s" % (signed_by, reason)) from None
    path = keys[0] if b"-----BEGIN PGP PUBLIC KEY BLOCK-----" in data else keys[1]
    changed = files.read(path) != data
    if changed and not context.check:
        files.make_folders(_KEYS)
        files.write(path, data)
    mode = {"owner": None, "group": None, "mode": 0o644}
    return files.attributes(path, mode, context.check) or changed, path
