"""Runner of one batch: applies its tasks in order and writes an event per step to its log."""

import fcntl
import importlib
import json
import os
import pwd
import signal
import time
from typing import IO, Any, Dict, Iterator, List, Optional, Tuple

from clusteradm.node import account, blobs
from clusteradm.node.context import Context, ModuleFailed
from clusteradm.node.spec import modules as module_specs

# Least time between two "line" events, which show that a long task still works.
_LINE_SECONDS = 0.5


class Runner:
    """One batch. `wakeup`: a pipe that gets a byte after each event, as long as it has a reader."""

    def __init__(self, directory: str, request: Dict[str, Any], wakeup: Optional[int]) -> None:
        self._request = request
        self._wakeup = wakeup
        self._log = open(os.path.join(directory, "events.jsonl"), "ab", buffering=0)  # noqa: SIM115 - held to the end
        self._number = 0
        self._cancelled = False
        self._child = 0
        self._context = Context(self._line, list(_all(request["tasks"])))
        self._task = 0
        self._last_line = 0.0

    def run(self, lock: IO[bytes]) -> None:
        """Wait for the node's batch lock, then run the tasks. The log always ends with an "end" event."""
        signal.signal(signal.SIGTERM, self._cancel)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._event("waiting", batch=_content(lock))
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except OSError:
                    if self._cancelled:
                        self._event("end", status="cancelled")
                        return
                    time.sleep(0.1)
        lock.seek(0)
        lock.truncate()
        lock.write(str(self._request["batch"]).encode())
        status = self._tasks()
        # Before the "end" event: its reader may send the next batch at once.
        lock.truncate(0)
        fcntl.flock(lock, fcntl.LOCK_UN)
        self._event("end", status=status)
        os.fsync(self._log.fileno())

    def _cancel(self, *_: Any) -> None:
        self._cancelled = True
        self._context.interrupt()
        if self._child:
            os.kill(self._child, signal.SIGTERM)

    def _event(self, kind: str, **fields: Any) -> None:
        self._number += 1
        event = dict(fields, n=self._number, kind=kind)
        self._log.write(json.dumps(event, separators=(",", ":")).encode("utf-8") + b"\n")
        if self._wakeup is not None:
            try:
                os.write(self._wakeup, b"!")
            except BlockingIOError:
                pass
            except OSError:
                self._wakeup = None

    def _line(self, text: str) -> None:
        now = time.monotonic()
        if text.strip() and now - self._last_line > _LINE_SECONDS:
            self._last_line = now
            self._event("line", task=self._task, text=text.strip()[-200:])

    def _tasks(self) -> str:
        notified = set(self._request.get("notified", ()))
        for task in self._request["tasks"]:
            if self._cancelled:
                return "cancelled"
            if task.get("handler") is not None:
                if task["handler"] not in notified:
                    continue
                notified.discard(task["handler"])
            self._task, self._last_line = task["index"], time.monotonic()
            self._event("start", task=self._task)
            result = self._run(task)
            status = _status(result)
            if status == "changed":
                notified |= set(task.get("notify", ()))
            self._event("result", task=self._task, status=status, result=result)
            if status == "failed" and not task.get("ignore_errors"):
                return "cancelled" if self._cancelled else "failed"
        return "complete"

    def _run(self, task: Dict[str, Any]) -> Dict[str, Any]:
        if task.get("items") is None:
            return self._once(task, task["args"])
        results: List[Dict[str, Any]] = []
        for item in task["items"]:
            if self._cancelled:
                break
            result = self._once(task, item["args"])
            result["item"] = item["item"]
            result["ansible_loop_var"] = "item"
            results.append(result)
        whole: Dict[str, Any] = {"results": results, "changed": any(result.get("changed") for result in results)}
        failed = [result for result in results if result.get("failed")]
        if failed:
            whole.update(failed=True, msg=failed[0].get("msg", "one or more items failed"))
        elif any(result.get("unknown") for result in results):
            whole["unknown"] = True
        return whole

    def _once(self, task: Dict[str, Any], args: Dict[str, Any]) -> Dict[str, Any]:
        """Run the module as the task's user: None is root, "" is the user of the login."""
        user = task.get("user")
        name = os.environ.get("SUDO_USER", "") if user == "" else user
        if not name or name == pwd.getpwuid(os.geteuid()).pw_name:
            return self._do(task, args)
        if "blob" in args:
            blobs.hold(args["blob"])  # the user cannot read it from the disk
        try:
            return dict(account.as_user(name, lambda: self._do(task, args, silent=True), started=self._started))
        except OSError as error:
            return {"failed": True, "changed": False, "msg": str(error)}
        finally:
            self._child = 0
            self._context.memory.clear()  # the child may have changed anything

    def _started(self, child: int) -> None:
        self._child = child

    def _do(self, task: Dict[str, Any], args: Dict[str, Any], silent: bool = False) -> Dict[str, Any]:
        context = self._context
        context.check, context.diff = bool(task.get("check")), bool(task.get("diff"))
        if silent:  # in a child process: the log has one writer
            context.line = lambda text: None
        name = task["module"]
        try:
            options = _paths(name, module_specs.normalise(name, args))
            module = importlib.import_module("clusteradm.node.modules." + name)
            result = dict(module.run(options, context))
        except ModuleFailed as failure:
            result = dict(failure.result, failed=True)
        except module_specs.OptionError as error:
            result = {"failed": True, "msg": str(error)}
        except OSError as error:
            result = {"failed": True, "msg": str(error)}
        except Exception:
            import traceback

            result = {"failed": True, "msg": "the module failed unexpectedly", "exception": traceback.format_exc()}
        result.setdefault("changed", False)
        if result["changed"] or result.get("failed"):
            context.memory.clear()
        if task.get("changed_when") is not None:
            result["changed"] = task["changed_when"]
        if task.get("failed_when") is not None:
            result["failed"] = task["failed_when"]
        return result


def _all(tasks: List[Dict[str, Any]]) -> Iterator[Tuple[str, Dict[str, Any]]]:
    """Module and arguments of each task, and of each item of a loop."""
    for task in tasks:
        for each in [task] if task.get("items") is None else task["items"]:
            yield task["module"], each["args"]


def _paths(module: str, options: Dict[str, Any]) -> Dict[str, Any]:
    """The options, with `~` and `$NAME` in paths expanded on this host."""
    for name, option in module_specs.MODULES[module]["options"].items():
        if option["type"] == "path" and options.get(name):
            options[name] = os.path.expanduser(os.path.expandvars(options[name]))
    return options


def _status(result: Dict[str, Any]) -> str:
    if result.get("failed"):
        return "failed"
    if result.get("unknown"):
        return "unknown"
    if result.get("changed"):
        return "changed"
    return "skipped" if result.get("skipped") else "ok"


def _content(lock: IO[bytes]) -> str:
    lock.seek(0)
    return lock.read().decode("utf-8", "replace")
