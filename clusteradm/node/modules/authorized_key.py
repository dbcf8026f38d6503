"""authorized_key: who may log in as a user, and under which limits."""

import os
import pwd
from typing import Any, Dict

from clusteradm.node import files
from clusteradm.node.modules import Context, Failed

_KINDS = ("ssh-", "ecdsa-", "sk-")


def run(options: Dict[str, Any], context: Context) -> Dict[str, Any]:
    """Have the key with exactly these options, or not at all. Other lines stay as they are."""
    name, key = options["user"], options["key"].strip()
    result: Dict[str, Any] = {"user": name, "key": key, "state": options["state"], "changed": False}
    if len(key.split()) < 2 or not key.startswith(_KINDS):
        raise Failed("invalid key specified: %s" % key, **result)
    try:
        account = pwd.getpwnam(name)
    except KeyError:
        if context.check:
            return dict(result, changed=True)
        raise Failed("Failed to lookup user %s" % name, **result) from None
    folder = os.path.join(account.pw_dir, ".ssh")
    path = os.path.join(folder, "authorized_keys")
    before = files.read(path)
    lines = (before or b"").decode("utf-8", "surrogateescape").splitlines()
    line = "%s %s" % (options["key_options"], key) if options["key_options"] else key
    blob = key.split()[1]
    kept = [old for old in lines if blob not in old.split() or old.lstrip().startswith("#")]
    if options["state"] == "absent":
        after = kept
    else:
        after = lines if line in lines and len(kept) == len(lines) - 1 else [*kept, line]
    if after == lines:
        return result
    result["changed"] = True
    if context.diff:
        result["diff"] = files.diff(
            path, before, "".join(one + "\n" for one in after).encode("utf-8", "surrogateescape")
        )
    if context.check:
        return result
    if not os.path.isdir(folder):
        os.mkdir(folder, 0o700)
        os.chown(folder, account.pw_uid, account.pw_gid)
    files.write(path, "".join(one + "\n" for one in after).encode("utf-8", "surrogateescape"))
    os.chown(path, account.pw_uid, account.pw_gid)
    os.chmod(path, 0o600)
    return result
