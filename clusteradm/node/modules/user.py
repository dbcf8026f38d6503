"""user: an account, and its SSH key."""

import grp
import os
import pwd
from typing import Any, Dict, List, Optional

from clusteradm.node.modules import Context, Failed


def run(options: Dict[str, Any], context: Context) -> Dict[str, Any]:
    """Have the account as the options say."""
    name = options["name"]
    try:
        now: Any = pwd.getpwnam(name)
    except KeyError:
        now = None
    result: Dict[str, Any] = {"name": name, "state": "present", "changed": False}
    command = _modify(options, now) if now else _add(options)
    if command:
        result["changed"] = True
        if context.check:
            return result
        done = context.run(command)
        if done.rc:
            raise Failed(done.last_words(), rc=done.rc, name=name)
        now = pwd.getpwnam(name)
    result.update(uid=now.pw_uid, group=now.pw_gid, home=now.pw_dir, shell=now.pw_shell, comment=now.pw_gecos)
    if options["generate_ssh_key"]:
        _key(options, now, result, context)
    return result


def _add(options: Dict[str, Any]) -> List[str]:
    command = ["useradd"]
    for flag, name in (("-u", "uid"), ("-g", "group"), ("-d", "home"), ("-s", "shell"), ("-c", "comment")):
        if options[name] is not None:
            command += [flag, str(options[name])]
    if options["groups"]:
        command += ["-G", ",".join(options["groups"])]
    if options["system"]:
        command.append("-r")
    command.append("-m" if options["create_home"] else "-M")
    return [*command, options["name"]]


def _modify(options: Dict[str, Any], now: Any) -> List[str]:
    command: List[str] = []
    if options["uid"] is not None and now.pw_uid != options["uid"]:
        command += ["-u", str(options["uid"])]
    if options["group"] is not None:
        gid = _gid(options["group"])
        if gid is not None and now.pw_gid != gid:
            command += ["-g", options["group"]]
    if options["groups"] is not None:
        has = {group.gr_name for group in grp.getgrall() if now.pw_name in group.gr_mem}
        wanted = set(options["groups"])
        if not wanted <= has or (has - wanted and not options["append"]):
            command += (["-a"] if options["append"] else []) + ["-G", ",".join(options["groups"])]
    for flag, name, old in (("-d", "home", now.pw_dir), ("-s", "shell", now.pw_shell), ("-c", "comment", now.pw_gecos)):
        if options[name] is not None and options[name] != old:
            command += [flag, options[name]]
    return ["usermod", *command, options["name"]] if command else []


def _gid(name: str) -> Optional[int]:
    try:
        return int(name) if name.isdigit() else grp.getgrnam(name).gr_gid
    except KeyError:
        return None


def _key(options: Dict[str, Any], account: Any, result: Dict[str, Any], context: Context) -> None:
    path = options["ssh_key_file"] or ".ssh/id_%s" % options["ssh_key_type"]
    path = os.path.join(account.pw_dir, path)
    if not os.path.exists(path):
        result["changed"] = True
        if context.check:
            return
        folder = os.path.dirname(path)
        if not os.path.isdir(folder):
            os.mkdir(folder, 0o700)
            os.chown(folder, account.pw_uid, account.pw_gid)
        comment = options["ssh_key_comment"] or "ansible-generated on %s" % os.uname().nodename
        done = context.run(["ssh-keygen", "-q", "-t", options["ssh_key_type"], "-N", "", "-C", comment, "-f", path])
        if done.rc:
            raise Failed(done.last_words(), rc=done.rc)
        for made in (path, path + ".pub"):
            os.chown(made, account.pw_uid, account.pw_gid)
    with open(path + ".pub") as file:
        result["ssh_public_key"] = file.read().strip()
    result["ssh_key_file"] = path
