"""authorized_key: keys that may log in as a user, with their options."""

import os
import pwd
import re
from typing import Any, Dict, List, NamedTuple, Optional

from clusteradm.node import files, paths
from clusteradm.node.context import Context, ModuleFailed

_KIND = re.compile(
    r"(webauthn-)?(sk-)?(ssh-(rsa|dss|ed25519|xmss)|ecdsa-sha2-nistp\d+|rsa-sha2-(256|512))"
    r"(-cert-v01)?(@openssh\.com)?\Z"
)
# Options are separated by commas outside quotes.
_OPTION = re.compile(r"""((?:[^,"']|"[^"]*"|'[^']*')+)""")


class Key(NamedTuple):
    """A key in the file."""

    options: List[str]
    kind: str
    blob: str
    comment: str

    def line(self) -> str:
        """The line, as Ansible writes it."""
        options = ",".join(self.options) + " " if self.options else ""
        return "%s%s %s %s\n" % (options, self.kind, self.blob, self.comment)

    def same(self, other: "Key") -> bool:
        """Whether both are the same key with the same options in any order."""
        return self[1:] == other[1:] and sorted(self.options) == sorted(other.options)


def run(options: Dict[str, Any], context: Context) -> Dict[str, Any]:
    """Add the keys with exactly these options, or remove them. Other lines stay, unless `exclusive`."""
    result: Dict[str, Any] = dict(options, changed=False)
    if options["key"].startswith(("http", "file:")):
        raise ModuleFailed("key has to be the text of a key, not a URL: %s" % options["key"], **result)
    wanted = _wanted(options)
    try:
        account: Any = pwd.getpwnam(options["user"])
    except KeyError:
        if not context.check:
            raise ModuleFailed("Failed to lookup user %s" % options["user"], **result) from None
        account = None
    if account is None and options["path"] is None:
        return dict(result, changed=True)  # an earlier task of this run would have created the user
    path = options["path"] or os.path.join(account.pw_dir, ".ssh", "authorized_keys")
    result["keyfile"] = path
    before = files.read(path)
    lines = (before or b"").decode("utf-8", "surrogateescape").splitlines(True)
    after = _after(lines, wanted, options)
    if after == lines:
        return dict(result, **_about(options))
    text = "".join(after).encode("utf-8", "surrogateescape")
    result["changed"] = True
    if context.diff:
        result["diff"] = files.diff(path, before, text)
    if not context.check:
        _write(path, text, account, options)
    return dict(result, **_about(options))


def _about(options: Dict[str, Any]) -> Dict[str, Any]:
    """The fields about the file, if the task names one; as in Ansible, its `state` replaces the task's."""
    return files.describe(options["path"]) if options["path"] else {}


def _wanted(options: Dict[str, Any]) -> List[Key]:
    wanted = []
    for line in options["key"].splitlines():
        if line and not line.startswith("#"):
            key = _parse(line)
            if key is None:
                raise ModuleFailed("invalid key specified: %s" % line)
            if options["key_options"] is not None:
                key = key._replace(options=_OPTION.findall(options["key_options"]))
            if options["comment"] is not None:
                key = key._replace(comment=options["comment"])
            wanted.append(key)
    return wanted


def _parse(line: str) -> Optional[Key]:
    words = line.replace("\\#", "#").split()
    if line.lstrip().startswith("#"):
        return None
    for index, word in enumerate(words[:-1]):
        if _KIND.match(word):
            return Key(_OPTION.findall(" ".join(words[:index])), word, words[index + 1], " ".join(words[index + 2 :]))
    return None


def _after(lines: List[str], wanted: List[Key], options: Dict[str, Any]) -> List[str]:
    """The new lines of the file; equal to `lines` if nothing is to change."""
    keys = [_parse(line) for line in lines]
    blobs = {key.blob for key in wanted}
    if options["state"] == "absent":
        gone = {index for index, key in enumerate(keys) if key is not None and key.blob in blobs}
        new: List[Key] = []
    else:
        new = [key for key in wanted if not any(old is not None and key.same(old) for old in keys)]
        changed = {key.blob for key in new}
        gone = {index for index, key in enumerate(keys) if key is not None and key.blob in changed}
        if options["exclusive"]:
            gone |= {index for index, key in enumerate(keys) if key is None or key.blob not in blobs}
    if not gone and not new:
        return lines
    kept = [(line, key) for index, (line, key) in enumerate(zip(lines, keys)) if index not in gone]
    after = [line if key is None else key.line() for line, key in kept]
    if after and not after[-1].endswith("\n"):
        after[-1] += "\n"
    return after + [key.line() for key in new]


def _write(path: str, text: bytes, account: Any, options: Dict[str, Any]) -> None:
    folder = os.path.dirname(path)
    if options["manage_dir"]:
        if not os.path.isdir(folder):
            files.make_folder(folder, 0o700)
        with paths.folder(folder) as fd:
            os.fchown(fd, account.pw_uid, account.pw_gid)
            os.fchmod(fd, 0o700)
    else:
        files.make_folders(folder)

    def prepare(temporary: Any) -> None:
        os.fchown(temporary.fileno(), account.pw_uid, account.pw_gid)
        os.fchmod(temporary.fileno(), 0o600)

    files.write(path, text, follow=False, prepare=prepare)
