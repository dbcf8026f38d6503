"""copy: a file with a given content, from the admin side or from this host."""

import hashlib
import os
import stat
from typing import Any, Dict

from clusteradm.node import blobs, files, paths
from clusteradm.node.context import Context, ModuleFailed


def run(options: Dict[str, Any], context: Context) -> Dict[str, Any]:
    """Write the body named by `blob`, or a copy of the file `src` of this host, to `dest`."""
    return _copy(options, context) if options["blob"] is None else place(options, context)


def place(options: Dict[str, Any], context: Context) -> Dict[str, Any]:
    """Write the body named by `blob` to `dest`, or, if that is a folder, to a file in it with the name of `src`."""
    body = blobs.body(options["blob"])
    if body is None:
        raise ModuleFailed("the body of %s did not arrive" % options["dest"])
    return _write(body, options, context)


def _copy(options: Dict[str, Any], context: Context) -> Dict[str, Any]:
    src = options["src"]
    if os.path.isdir(src):
        raise ModuleFailed("Source %s is a folder: copy takes single files (use a loop, or command: cp -a)" % src)
    body = files.read(src)
    if body is None:
        raise ModuleFailed("Source %s not found" % src)
    mode = stat.S_IMODE(os.stat(src).st_mode)
    if options["mode"] == "preserve":
        options["mode"] = mode
    target = os.path.join(options["dest"], os.path.basename(src)) if os.path.isdir(options["dest"]) else options["dest"]
    if os.path.exists(target) and files.read(target) != body:
        # As in Ansible: the copy does not keep the attributes of the file it replaces.
        new = {"mode": mode, "owner": str(os.geteuid()), "group": str(os.getegid())}
        options.update({name: value for name, value in new.items() if options[name] is None})
    context.diff = False  # Ansible shows none either
    return dict(_write(body, options, context), src=src)


def _write(body: bytes, options: Dict[str, Any], context: Context) -> Dict[str, Any]:
    sha1 = hashlib.sha1(body).hexdigest()  # noqa: S324 - Ansible's checksum of a file
    if options.get("checksum") and options["checksum"] != sha1:
        words = "Copied file does not match the expected checksum. Transfer failed."
        raise ModuleFailed(words, checksum=sha1, expected_checksum=options["checksum"])
    dest, name = options["dest"], os.path.basename(options["src"])
    made = False
    if dest.endswith("/") or os.path.isdir(dest):
        if not name:
            raise ModuleFailed("can not use content with a dir as dest")
        made = _folder(dest, options, context)
        dest = os.path.join(dest, name)
    if options["follow"]:
        dest = paths.real(dest)
    if os.path.lexists(dest) and not options["force"]:
        return {"dest": dest, "changed": made, "msg": "file already exists"}
    before = files.read(dest)
    try:
        result = files.replace(dest, before, body, options, context)
    except ModuleFailed as failure:
        if context.diff:
            failure.result["diff"] = files.diff(dest, before, body)
        raise
    result.update(files.describe(dest), dest=dest, checksum=sha1)
    return result


def _folder(path: str, options: Dict[str, Any], context: Context) -> bool:
    """Create the folder and its parents, as far as they are missing; True if any is."""
    missing = files.missing(path)
    for one in missing:
        if not context.check:
            files.make_folder(one)
            files.attributes(one, dict(options, mode=None), False)
    return bool(missing)
