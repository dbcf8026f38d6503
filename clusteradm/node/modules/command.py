"""command: run a program, without a shell."""

import datetime
import glob
import os
import shlex
from typing import Any, Dict, List

from clusteradm.node.context import Context, ModuleFailed


def run(options: Dict[str, Any], context: Context) -> Dict[str, Any]:
    """Run the program in `cmd` or `argv`; `$NAME` and `~` in its arguments are expanded as by a shell."""
    try:
        words = [str(word) for word in options["argv"] or shlex.split(options["cmd"])]
    except ValueError as error:
        raise ModuleFailed("%s in the command %s" % (error, options["cmd"]), rc=256) from None
    command = words
    if options["expand_argument_vars"]:
        command = [os.path.expanduser(os.path.expandvars(word)) for word in words]
    return execute(command, words, options, context)


def execute(command: List[str], shown: Any, options: Dict[str, Any], context: Context) -> Dict[str, Any]:
    """Run the command, unless `creates` exists or `removes` does not. Without these, check mode cannot know."""
    if not command:
        raise ModuleFailed("no command given", rc=256)
    where = _folder(options["chdir"])
    result: Dict[str, Any] = {"cmd": shown, "changed": True}
    for name, wanted, reason in (("creates", True, "exists"), ("removes", False, "does not exist")):
        pattern = options[name]
        if pattern and bool(glob.glob(os.path.join(where, pattern))) is wanted:
            return dict(
                result,
                changed=False,
                msg="%s not run command since '%s' %s" % ("Would" if context.check else "Did", pattern, reason),
                **_outputs(0, "skipped, since %s %s" % (pattern, reason), ""),
            )
    if context.check:
        known = bool(options["creates"] or options["removes"])
        return dict(result, changed=known, unknown=not known, msg="Command would have run if not in check mode")
    stdin = options["stdin"] or ""
    if stdin and options["stdin_add_newline"]:
        stdin += "\n"
    begin = datetime.datetime.now()
    try:
        done = context.run(command, stdin=stdin, cwd=where, interruptible=True)
    except OSError as error:
        reason = "Error executing command: [Errno %s] %s: %s" % (error.errno, error.strerror, command[0])
        raise ModuleFailed(reason, cmd=shown, **_outputs(error.errno or 1, "", "")) from None
    end = datetime.datetime.now()
    stdout, stderr = done.stdout, done.stderr
    if options["strip_empty_ends"]:
        stdout, stderr = stdout.rstrip("\r\n"), stderr.rstrip("\r\n")
    result.update(_outputs(done.rc, stdout, stderr), start=str(begin), end=str(end), delta=str(end - begin), msg="")
    if done.rc != 0:
        raise ModuleFailed(**dict(result, msg="non-zero return code"))
    return result


def _folder(chdir: Any) -> str:
    """The working folder: `chdir`, relative to the home of the user who logged in."""
    home = os.path.expanduser("~" + os.environ.get("SUDO_USER", ""))
    if chdir:
        where = os.path.join(home, chdir)
        if not os.path.isdir(where):
            raise ModuleFailed("Unable to change directory before execution: %s does not exist" % where)
        return where
    return home if os.path.isdir(home) else "/"


def _outputs(rc: int, stdout: str, stderr: str) -> Dict[str, Any]:
    return {
        "rc": rc,
        "stdout": stdout,
        "stdout_lines": stdout.splitlines(),
        "stderr": stderr,
        "stderr_lines": stderr.splitlines(),
    }
