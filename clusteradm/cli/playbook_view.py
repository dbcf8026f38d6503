"""View of a playbook's run: a live table of hosts on a terminal; without one, a line per change, failure and wait."""

from __future__ import annotations

import datetime
import difflib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Group, RenderableType
from rich.spinner import Spinner

from clusteradm.cli import show
from clusteradm.cli.display import Display
from clusteradm.cli.show import counted
from clusteradm.playbook import (
    Event,
    HostLost,
    HostRecap,
    HostWaiting,
    PlayStarted,
    Recap,
    TaskFinished,
    TaskOutput,
    TaskStarted,
)

_STYLES = {"changed": "yellow", "failed": "bold red", "unknown": "magenta", "unreachable": "bold red", "ignored": "red"}

# A longer diff is cut off; --json has all of it.
_DIFF_LINES = 400


class View:
    """Shows events as they come, and the recap at the end. `tasks`: every result by host, for --json."""

    def __init__(
        self, console: show.Output, *, diff: bool, check: bool, complete: Callable[[str], str] = lambda text: text
    ) -> None:
        """`complete`: adds the options of this run to the commands in a text (next_step.complete)."""
        self._complete = complete
        self._console = console
        self._diff = diff
        self._check = check
        self._current: dict[str, show.Text] = {}
        self._spinners: dict[str, Spinner] = {}
        self._display = Display(console, self._progress)
        self._started = time.monotonic()
        self._play: PlayStarted | None = None
        # Tasks of the play that each host has done.
        self._done: dict[str, int] = {}
        self.tasks: dict[str, list[dict[str, Any]]] = {}

    def __enter__(self) -> View:
        self._display.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._display.__exit__(kind, error, trace)

    def event(self, event: Event) -> None:
        """Show one event."""
        match event:
            case PlayStarted():
                self._play, self._done = event, {}
                place = f"play {event.number} of {event.plays}, {counted(event.tasks, 'task')}, {self._elapsed}"
                self._print(f"{show.line(event.play)}: {' '.join(event.hosts) or 'no hosts'}  ({place})", "bold")
                self._current = {host: show.text("") for host in event.hosts}
            case TaskStarted():
                self._current[event.host] = show.text(show.line(event.task))
            case TaskOutput():
                self._current[event.host] = show.text(show.line(event.task), ": ", (show.line(event.text), "dim"))
            case TaskFinished():
                self._result(event)
            case HostWaiting():
                self._current[event.host] = show.text(show.line(event.task), ": ", (show.line(event.reason), "cyan"))
                if not self._console.is_terminal:
                    self._print(f"  {event.host}: waiting: {show.line(event.reason)}")
            case HostLost():
                place, reason = show.line(event.task or event.play), show.line(self._complete(event.reason))
                self._print(f"  {event.host}: {reason} (at: {place})", _STYLES["unreachable"])
                self._current.pop(event.host, None)

    def recap(self, recap: Recap, again: str) -> None:
        """Show the counts of every host, and what was not completed. `again`: the command that completes it."""
        width = max((len(name) for name in recap.hosts), default=0)
        self._print(f"\nelapsed: {self._elapsed}")
        for name, host in recap.hosts.items():
            self._print(f"{name:<{width}} : {_counts(host)}", _style(host))
        for name, host in recap.hosts.items():
            if host.stopped_at:
                self._print(
                    f'{name} stopped at "{show.line(host.stopped_at)}": {self._complete(host.reason)}',
                    _STYLES["failed"],
                )
        if recap.interrupted:
            self._print("interrupted; not completed:", _STYLES["failed"])
            for name, task in recap.interrupted.items():
                self._print(f"  {name}: {show.line(task or 'not started')}")
            self._print(f"to complete them, run it again:\n  {again}")

    def _result(self, event: TaskFinished) -> None:
        status = "ignored" if event.status == "failed" and event.ignored else event.status
        place = str(event.place) if event.place else ""
        self.tasks.setdefault(event.host, []).append(
            {"play": event.play, "task": event.task, "module": event.module, "place": place, "status": status}
            | {"result": event.result}
        )
        self._current[event.host] = show.text("")
        if event.module:
            self._done[event.host] = self._done.get(event.host, 0) + 1
        if status in _STYLES:
            shown: str = status
            if status == "changed" and event.check:  # also a task with check_mode in a run that is none
                shown = "would be changed" if self._check else "differs"
            self._print(f"  {event.host}: {shown}: {show.line(event.task)}", _STYLES[status])
        elif event.module == "debug" and status == "ok":
            self._print(f"  {event.host}: {show.line(event.task)}:")
        for name, result in _items(event.result):
            if event.module == "debug" and status == "ok":
                self._print(_indented(_debug_text(name, result)))
            if result.get("failed"):
                self._print(
                    _indented(self._complete(_message(name, result))), _STYLES["ignored" if event.ignored else "failed"]
                )
            elif status == "unknown" and result.get("msg"):
                self._print(_indented(str(result["msg"])), "dim")
            if self._diff and status in ("changed", "unknown"):
                for line in _diff_lines(result):
                    self._print(f"    {line}", {"+": "green", "-": "red", "@": "cyan"}.get(line[:1], ""))

    @property
    def _elapsed(self) -> str:
        return clock(time.monotonic() - self._started)

    def _print(self, text: str, style: str = "") -> None:
        self._console.print(show.text((text, style)))

    def _progress(self) -> RenderableType:
        """The play, its place among all, the time since the start; a row for each host that is at a task."""
        if self._play is None:
            return ""
        about = f"play {self._play.number} of {self._play.plays}, {self._elapsed}"
        return Group(show.text((f"{show.line(self._play.play)}: {about}", "dim")), self._table(self._play.tasks))

    def _table(self, tasks: int) -> RenderableType:
        # Where the terminal is narrow, the last column gives way: the others stay whole.
        table = show.Table.grid(padding=(0, 1), expand=True)
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True, justify="right")
        table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
        # A copy: events go on while this is drawn, in another thread.
        for host, text in list(self._current.items()):
            if text.plain:
                # The handlers of a play come in addition to its tasks.
                done = f"{min(self._done.get(host, 0) + 1, tasks)}/{tasks}"
                table.add_row(self._spinners.setdefault(host, Spinner("dots")), host, done, text)
        return table


def clock(seconds: float) -> str:
    """A time span as minutes and seconds ("3:07"), or with hours ("1:00:00")."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def json_body(path: Path, recap: Recap, tasks: Mapping[str, Any], started: float, *, check: bool) -> dict[str, Any]:
    """The body of the --json document: per host its counts, where it stopped, and each task's result."""
    moment = datetime.datetime.fromtimestamp(started, datetime.timezone.utc)
    counts = {name: asdict(host) for name, host in recap.hosts.items()}
    keys = ("ok", "changed", "unreachable", "failed", "skipped", "ignored", "unknown")
    body = {
        "playbook": str(path),
        "check": check,
        "started": moment.isoformat(timespec="seconds"),
        "finished": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "hosts": {name: {**host, "tasks": tasks.get(name, [])} for name, host in counts.items()},
        "summary": {key: sum(host[key] for host in counts.values()) for key in keys},
        "interrupted": recap.interrupted,
    }
    # A fact or a result may hold a type that JSON does not have, such as a YAML date.
    plain: dict[str, Any] = json.loads(json.dumps(body, default=str))
    return plain


def _counts(host: HostRecap) -> str:
    text = (
        f"ok={host.ok:<4} changed={host.changed:<4} unreachable={host.unreachable:<4} failed={host.failed:<4} "
        f"skipped={host.skipped:<4}"
    )
    more = (f" {name}={count:<4}" for name, count in (("ignored", host.ignored), ("unknown", host.unknown)) if count)
    return "".join((text, *more)).rstrip()


def _style(host: HostRecap) -> str:
    if host.failed or host.unreachable:
        return "red"
    return "yellow" if host.changed or host.unknown else "green"


def _items(result: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(label, result) of each item of a loop; ("", result) without a loop."""
    inner = result.get("results")
    if isinstance(inner, list) and inner and all(isinstance(each, Mapping) and "item" in each for each in inner):
        for each in inner:
            yield str(each.get("_ansible_item_label", each["item"])), each
    else:
        yield "", result


def _message(name: str, result: Mapping[str, Any]) -> str:
    """The text of a failed task: its message, then the command's output."""
    parts = [str(result.get("censored") or result.get("msg") or "")]
    parts += [str(result[key]) for key in ("stderr", "stdout", "exception") if result.get(key)]
    text = "\n".join(part.strip() for part in parts if part.strip())
    return f"({name}) {text}" if name else text


def _debug_text(name: str, result: Mapping[str, Any]) -> str:
    """The text of a debug task."""
    shown = {key: value for key, value in result.items() if key not in _OF_A_LOOP and key != "changed"}
    value = shown["msg"] if set(shown) == {"msg"} else shown
    text = value if isinstance(value, str) else json.dumps(value, indent=2, default=str)
    return f"({name}) {text}" if name else text


# The node sends no larger files; what another program says would take hours to compare.
_DIFF_CHARACTERS = 300_000

# Keys of an item's result that describe the loop.
_OF_A_LOOP = ("item", "ansible_loop_var", "_ansible_item_label")


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())


def _diff_lines(result: Mapping[str, Any]) -> list[str]:
    diffs = result.get("diff") or []
    lines: list[str] = []
    for diff in diffs if isinstance(diffs, list) else [diffs]:
        if "prepared" in diff:
            lines += str(diff["prepared"]).splitlines()
            continue
        before, after = (_text(diff.get(key)) for key in ("before", "after"))
        if sum(map(len, before)) + sum(map(len, after)) > _DIFF_CHARACTERS:
            lines.append("(too large to compare)")
            continue
        headers = (str(diff.get("before_header", "before")), str(diff.get("after_header", "after")))
        lines += difflib.unified_diff(before, after, *headers, lineterm="")
    if len(lines) > _DIFF_LINES:
        lines = [*lines[:_DIFF_LINES], f"... {len(lines) - _DIFF_LINES} more lines (all of them: --json)"]
    return lines


def _text(value: Any) -> list[str]:
    if value is None:
        return []
    text = value if isinstance(value, str) else json.dumps(value, indent=2, sort_keys=True)
    return text.splitlines()


def exit_status(recap: Recap, *, detailed: bool = False) -> int:
    """The exit status of a run. `detailed`: another one where changes are pending."""
    if recap.interrupted:
        return 130
    if recap.failed:
        return 3
    if recap.unreachable:
        return 4
    return 5 if detailed and recap.pending else 0
