"""Result of a task: its status, and the mapping that `register` keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

Status = Literal["ok", "changed", "failed", "skipped", "unknown"]

# Keys of a command's result that a check cannot know.
_OF_A_COMMAND = ("rc", "stdout", "stdout_lines", "stderr", "stderr_lines")

CENSORED = "the output has been hidden because of no_log"


class UnknownUntilRun(Exception):
    """In check mode: a value that only a real run can know is needed."""


class Forecast(dict[str, Any]):
    """The result of a task that check mode predicted. Reading a key that it does not have raises UnknownUntilRun."""

    def __init__(self, result: Mapping[str, Any], task: str) -> None:
        super().__init__(result)
        self.task = task

    def __missing__(self, key: str) -> Any:
        raise UnknownUntilRun(f'"{key}" of the result of the task "{self.task}" is not known until it has run')


def forecast(result: Mapping[str, Any], task: str) -> Mapping[str, Any]:
    """The result to register in check mode: unchanged if the task would change nothing, else a Forecast."""
    kept = dict(result)
    if "results" in kept:
        kept["results"] = [forecast(item, task) if isinstance(item, Mapping) else item for item in kept["results"]]
    if status_of(result) == "unknown":
        return Forecast({key: kept[key] for key in ("unknown", "msg", "results") if key in kept}, task)
    if result.get("changed"):
        return Forecast({key: value for key, value in kept.items() if key not in _OF_A_COMMAND}, task)
    return kept


def status_of(result: Mapping[str, Any]) -> Status:
    """The status of a result."""
    if result.get("failed"):
        return "failed"
    if result.get("unknown"):  # before skipped: a command that was not run in check mode has both, as in Ansible
        return "unknown"
    if result.get("skipped"):
        return "skipped"
    return "changed" if result.get("changed") else "ok"


def skipped(reason: str = "Conditional result was False") -> dict[str, Any]:
    return {"changed": False, "skipped": True, "skip_reason": reason}


def failed(message: str) -> dict[str, Any]:
    return {"changed": False, "failed": True, "msg": message}


def of_items(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The result of a loop, combined from those of its items as Ansible does."""
    if not results:
        return {"changed": False, "skipped": True, "skipped_reason": "No items in the list", "results": []}
    combined: dict[str, Any] = {
        "results": list(results),
        "changed": any(result.get("changed") for result in results),
        "msg": "All items completed",
        "skipped": all(result.get("skipped") for result in results),
    }
    if combined["skipped"]:
        combined["msg"] = "All items skipped"
    if any(result.get("unknown") for result in results):
        combined["unknown"] = True
    if any(result.get("failed") for result in results):
        combined.update(failed=True, msg="One or more items failed")
    return combined


def censored(result: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a result that may be shown under no_log."""
    kept = {key: result[key] for key in ("changed", "failed", "skipped", "unknown") if key in result}
    return {"censored": CENSORED, **kept}
