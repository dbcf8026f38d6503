"""Work of a probe as the cluster user, with a time limit; hanging, crashing and failing are results too."""

import pwd
import time
from typing import Any, Callable, Dict

from clusteradm.node.account import AccountError, AccountTimeout, as_user
from clusteradm.node.probe import pace


def attempt(user: str, seconds: float, work: Callable[[], Dict[str, Any]]) -> Dict[str, Any]:
    """The work's result with "ok" (True unless the work sets it) and "seconds"; or "ok": False and "error".

    `seconds`: its limit at a usual pace (pace.py).
    "timeout": True if it did not end in time.
    """
    begun = time.monotonic()
    try:
        result = dict(as_user(user, work, pace.seconds(seconds)))
    except AccountTimeout as error:
        return {"ok": False, "error": str(error), "timeout": True}
    except AccountError as error:
        return {"ok": False, "error": str(error)}
    result.setdefault("ok", True)
    result["seconds"] = round(time.monotonic() - begun, 4)
    return result


def is_root(user: str) -> bool:
    """Whether the user is root, whom the apex driver lets open even a TPU that another process owns."""
    try:
        return pwd.getpwnam(user).pw_uid == 0
    except KeyError:
        return False
