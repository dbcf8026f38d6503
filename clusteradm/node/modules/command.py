"""command: run a program, without a shell."""

import glob
import os
import shlex
import time
from typing import Any, Dict, List

from clusteradm.node.modules import Context, Failed


def run(options: Dict[str, Any], context: Context) -> Dict[str, Any]:
    """Run the program that `cmd` or `argv` names."""
    command = [str(word) for word in options["argv"] or shlex.split(options["cmd"])]
    return execute(command, command, options, context)


def execute(command: List[str], shown: Any, options: Dict[str, Any], context: Context) -> Dict[str, Any]:
    """Run it, unless `creates` is there or `removes` is not. Check mode cannot tell without these."""
    if not command:
        raise Failed("no command given", rc=256)
    where = options["chdir"] or "/"
    if not os.path.isdir(where):
        raise Failed("Unable to change directory before execution: %s is not there" % where)
    result: Dict[str, Any] = {"cmd": shown, "changed": True}
    for name, wanted, reason in (("creates", True, "exists"), ("removes", False, "does not exist")):
        pattern = options[name]
        if pattern and bool(glob.glob(os.path.join(where, pattern))) is wanted:
            text = "skipped, since %s %s" % (pattern, reason)
            return dict(
                result, changed=False, rc=0, stdout=text, stdout_lines=[text], stderr="", stderr_lines=[], msg=text
            )
    if context.check:
        known = bool(options["creates"] or options["removes"])
        return dict(result, changed=known, unknown=not known)
    begun = time.time()
    try:
        done = context.run(command, stdin=options["stdin"] or "", cwd=where, interruptible=True)
    except OSError as error:
        raise Failed(
            "[Errno %s] %s: %s" % (error.errno, error.strerror, command[0]), rc=error.errno, cmd=shown
        ) from None
    result.update(done.result())
    result["delta"] = "%.6f" % (time.time() - begun)
    if done.rc != 0:
        raise Failed("non-zero return code", **result)
    return result
