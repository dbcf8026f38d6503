"""user: an account with its groups, password, home and SSH key."""

import grp
import os
import pwd
import re
import shutil
import time
from typing import Any, Dict, List, Optional

from clusteradm.node.account import as_user
from clusteradm.node.context import Context, ModuleFailed

_SHADOW = "/etc/shadow"
_LOGIN_DEFS = "/etc/login.defs"
# Fields of a line of _SHADOW.
_HASH, _MIN, _MAX, _WARN, _EXPIRE = 1, 3, 4, 5, 7


def run(options: Dict[str, Any], context: Context) -> Dict[str, Any]:
    """Create or change the account, or remove it."""
    name = options["name"]
    account = _account(name)
    result: Dict[str, Any] = {"name": name, "state": options["state"], "changed": False}
    if options["state"] == "absent":
        if account is not None:
            if context.check:
                return {"changed": True}
            flags = [flag for flag, wanted in (("-f", options["force"]), ("-r", options["remove"])) if wanted]
            _do(context, ["userdel", *flags, name], name, result)
            result.update(force=options["force"], remove=options["remove"])
        return result
    if account is None:
        command = _add(options)
        if context.check:
            return {"changed": True}
        orphaned = (
            options["create_home"] and bool(options["home"]) and not os.path.isdir(os.path.dirname(options["home"]))
        )
        if orphaned:  # useradd does not create the parent of a home
            _make_home(options["home"], options["skeleton"])
        _do(context, command, name, result)
        account = pwd.getpwnam(name)
        if orphaned:
            _chown_tree(options["home"], account)
        if options["password"] is not None:
            _set_password(options, context, result)
        result.update(system=options["system"], create_home=options["create_home"])
    else:
        _modify(options, account, context, result)
        account = pwd.getpwnam(name)
        result.update(append=options["append"], move_home=options["move_home"])
    if options["password"] is not None:
        result["password"] = "NOT_LOGGING_PASSWORD"  # noqa: S105 - not a password
    result.update(uid=account.pw_uid, group=account.pw_gid, comment=account.pw_gecos)
    result.update(home=account.pw_dir, shell=account.pw_shell)
    if options["groups"] is not None:
        result["groups"] = ",".join(str(group) for group in options["groups"])
    home = options["home"] or account.pw_dir
    if options["create_home"] and not os.path.exists(home):
        result["changed"] = True
        if not context.check:
            _make_home(home, options["skeleton"])
            _chown_tree(home, account)
    if options["generate_ssh_key"]:
        _key(options, account, result, context)
    _age(options, context, result)
    return result


def _add(options: Dict[str, Any]) -> List[str]:
    name = options["name"]
    command = ["useradd"]
    if options["uid"] is not None:
        command += ["-u", str(options["uid"]), *(["-o"] if options["non_unique"] else [])]
    if options["group"] is not None:
        _group(options["group"])
        command += ["-g", options["group"]]
    elif any(group.gr_name == name for group in grp.getgrall()):
        command.append("-N")
    if options["groups"]:
        command += ["-G", ",".join(_group(group).gr_name for group in options["groups"])]
    for flag, option in (("-c", "comment"), ("-d", "home"), ("-s", "shell")):
        if options[option] is not None:
            command += [flag, options[option]]
    if options["expires"] is not None:
        command += ["-e", _date(options["expires"])]
    command.append("-m" if options["create_home"] else "-M")
    if options["create_home"] and options["skeleton"] is not None:
        command += ["-k", options["skeleton"]]
    if options["create_home"] and options["umask"] is not None:
        command += ["-K", "UMASK=" + options["umask"]]
    if options["system"]:
        command.append("-r")
    return [*command, name]


def _modify(options: Dict[str, Any], account: Any, context: Context, result: Dict[str, Any]) -> None:
    command: List[str] = []
    if options["uid"] not in (None, account.pw_uid):
        command += ["-u", str(options["uid"]), *(["-o"] if options["non_unique"] else [])]
    if options["group"] is not None:
        gid = _group(options["group"]).gr_gid
        if gid != account.pw_gid:
            command += ["-g", str(gid)]
    if options["groups"] is not None:
        has = {group.gr_name for group in grp.getgrall() if account.pw_name in group.gr_mem}
        wanted = {_group(group).gr_name for group in options["groups"]}
        if wanted - has or (has - wanted and not options["append"]):
            command += [*(["-a"] if options["append"] else []), "-G", ",".join(sorted(wanted))]
    if options["comment"] not in (None, account.pw_gecos):
        command += ["-c", options["comment"]]
    if options["home"] not in (None, account.pw_dir):
        command += ["-d", options["home"], *(["-m"] if options["move_home"] else [])]
    if options["shell"] not in (None, account.pw_shell):
        command += ["-s", options["shell"]]
    if options["expires"] is not None:
        now = _shadow(account.pw_name, _EXPIRE)
        day = options["expires"] // 86400 if options["expires"] >= 0 else None
        if now != ("" if day is None else str(day)):
            command += ["-e", _date(options["expires"])]
    kept = _shadow(account.pw_name, _HASH)
    changed = options["password"] is not None and options["update_password"] != "on_create"  # noqa: S105 - says when
    changed = changed and kept.lstrip("!") != str(options["password"]).lstrip("!")
    if not changed and options["password_lock"] is not None and options["password_lock"] != kept.startswith("!"):
        command.append("-L" if options["password_lock"] else "-U")
    result["changed"] = bool(command) or changed
    if not context.check:
        if command:
            _do(context, ["usermod", *command, account.pw_name], account.pw_name, result)
        if changed:
            _set_password(options, context, result)


def _set_password(options: Dict[str, Any], context: Context, result: Dict[str, Any]) -> None:
    """Set the hash by chpasswd's standard input: every user can read a command line."""
    password = ("!" if options["password_lock"] else "") + options["password"]
    if "\n" in password or ":" in password:
        raise ModuleFailed("password: a hash cannot have a colon or a line end", name=options["name"])
    _do(context, ["chpasswd", "-e"], options["name"], result, "%s:%s\n" % (options["name"], password))


def _age(options: Dict[str, Any], context: Context, result: Dict[str, Any]) -> None:
    command: List[str] = []
    for flag, option, field in (("-m", "min", _MIN), ("-M", "max", _MAX), ("-W", "warn", _WARN)):
        days = options["password_expire_" + option]
        if days is not None and str(days) != _shadow(options["name"], field):
            command += [flag, str(days)]
    if command:
        result["changed"] = True
        if not context.check:
            _do(context, ["chage", *command, options["name"]], options["name"], result)


def _do(context: Context, command: List[str], name: str, result: Dict[str, Any], stdin: str = "") -> None:
    done = context.run(command, stdin=stdin)
    if done.rc:
        raise ModuleFailed(done.stderr, rc=done.rc, name=name)
    result["changed"] = True
    for key, text in (("stdout", done.stdout), ("stderr", done.stderr)):
        if text:
            result[key] = result.get(key, "") + text


def _account(name: str) -> Any:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None


def _group(name: Any) -> Any:
    """The group, by number or name."""
    try:
        return grp.getgrgid(int(name))
    except (ValueError, KeyError):
        try:
            return grp.getgrnam(str(name))
        except KeyError:
            raise ModuleFailed("Group %s does not exist" % name) from None


def _shadow(name: str, field: int) -> str:
    with open(_SHADOW, encoding="utf-8", errors="replace") as file:
        for line in file:
            fields = line.rstrip("\n").split(":")
            if fields[0] == name:
                return fields[field]
    return ""


def _date(seconds: int) -> str:
    return "" if seconds < 0 else time.strftime("%Y-%m-%d", time.gmtime(seconds))


def _make_home(path: str, skeleton: Optional[str]) -> None:
    """Create a home as useradd does: from the skeleton, with the mode in login.defs."""
    skeleton = skeleton or "/etc/skel"
    if os.path.isdir(skeleton):
        shutil.copytree(skeleton, path, symlinks=True)
    else:
        os.makedirs(path)
    with open(_LOGIN_DEFS, encoding="utf-8", errors="replace") as file:
        said = dict(re.findall(r"^(HOME_MODE|UMASK)\s+([0-7]+)\s*$", file.read(), re.M))
    os.chmod(path, int(said["HOME_MODE"], 8) if "HOME_MODE" in said else 0o777 & ~int(said.get("UMASK", "022"), 8))


def _chown_tree(path: str, account: Any) -> None:
    """Hand a new home over, the innermost first: what the user owns, it could replace by a link meanwhile."""
    for folder, folders, names in os.walk(path, topdown=False):
        for name in folders + names:
            os.lchown(os.path.join(folder, name), account.pw_uid, account.pw_gid)
    os.lchown(path, account.pw_uid, account.pw_gid)


def _key(options: Dict[str, Any], account: Any, result: Dict[str, Any], context: Context) -> None:
    """Make the key as the user, whose folder it is in: a link there leads nowhere that the user may not go."""

    def work() -> Dict[str, Any]:
        context.line = lambda text: None  # in a child process: the log has one writer
        mine: Dict[str, Any] = {"changed": False}
        try:
            _make_key(options, account, mine, context)
        except ModuleFailed as failure:
            return {"failure": failure.result}
        return mine

    found = as_user(account.pw_name, work)
    if "failure" in found:
        raise ModuleFailed(**found["failure"])
    for key in ("stdout", "stderr"):
        if key in found:
            found[key] = result.get(key, "") + found[key]
    result.update(found, changed=result["changed"] or found["changed"])


def _make_key(options: Dict[str, Any], account: Any, result: Dict[str, Any], context: Context) -> None:
    path = os.path.join(account.pw_dir, options["ssh_key_file"] or ".ssh/id_%s" % options["ssh_key_type"])
    public = path + ".pub"
    there = [each for each in (path, public) if os.path.exists(each)]
    if options["force"] or not there:
        result["changed"] = True
        if not context.check:
            folder = os.path.dirname(path)
            if not os.path.isdir(folder):
                os.mkdir(folder, 0o700)
            for each in there:
                os.unlink(each)
            comment = options["ssh_key_comment"] or "ansible-generated on %s" % os.uname().nodename
            command = ["ssh-keygen", "-q", "-t", options["ssh_key_type"], "-N", "", "-C", comment, "-f", path]
            if options["ssh_key_bits"]:
                command += ["-b", str(options["ssh_key_bits"])]
            _do(context, command, account.pw_name, result)
    if os.path.exists(path):
        result["ssh_fingerprint"] = context.run(["ssh-keygen", "-l", "-f", path]).stdout.strip()
    result["ssh_key_file"] = path
    result["ssh_public_key"] = None
    if os.path.exists(public):
        with open(public, encoding="utf-8") as file:
            result["ssh_public_key"] = file.read().strip()
