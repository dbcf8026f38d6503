"""Reader of a playbook file and of all that it imports; reports every defect of all files at once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from clusteradm import regular
from clusteradm.errors import InputErrors, Problem, UsageError
from clusteradm.inventory import Cluster
from clusteradm.nearest import nearest
from clusteradm.playbook.model import Place, Play, Playbook, Task
from clusteradm.playbook.read import facts
from clusteradm.playbook.read.keywords import IMPORT, LINEAR_ONLY, PLAY, Keywords
from clusteradm.playbook.read.source import Entry, Source, Unreadable, Value
from clusteradm.playbook.read.tasks import Inherited, TaskReader
from clusteradm.playbook.render.jinja import Templates


def load(path: Path, cluster: Cluster, templates: Templates | None = None) -> Playbook:
    """Read a playbook for a cluster. Raises InputErrors with every defect found.

    `templates`: compiles the playbook's templates; pass it on to the run, which then need not compile them again.
    """
    problems: list[Problem] = []
    reader = _Reader(cluster, templates or Templates(), problems)
    plays = reader.playbook(path)
    playbook = Playbook(path, cluster, plays)
    problems += facts.check(playbook)
    if problems:
        raise InputErrors(sorted(set(problems)))
    return playbook


class _Reader:
    def __init__(self, cluster: Cluster, templates: Templates, problems: list[Problem]) -> None:
        self._cluster = cluster
        self._templates = templates
        self._problems = problems
        self._importing: list[Path] = []
        self._imported: list[Path] = []

    def playbook(self, path: Path) -> tuple[Play, ...]:
        """The plays of one file, with those of imported files in their places."""
        source = Source(path, self._problems, self._imported)
        document = source.read()
        if document is None or document.is_null:
            return ()
        if not document.is_list:
            source.problem(document.line, "a playbook is a list of plays")
            return ()
        self._importing.append(path.resolve())
        plays: list[Play] = []
        with contextlib.suppress(Unreadable):
            self._plays(source, document, plays)
        self._importing.pop()
        return tuple(plays)

    def _plays(self, source: Source, document: Value, plays: list[Play]) -> None:
        for element in document.items():
            if not element.is_mapping:
                source.problem(element.line, "a play is a mapping")
                continue
            entries = {entry.key: entry for entry in element.entries()}
            imported = _imported(entries)
            if imported:
                plays += self._import(source, imported, entries)
            else:
                plays += self._play(source, element, entries)

    def _import(self, source: Source, imported: Entry, entries: Mapping[str, Entry]) -> tuple[Play, ...]:
        keywords = Keywords(IMPORT, "import_playbook", source, self._templates)
        keywords.read([entry for entry in entries.values() if entry is not imported])  # only to report wrong ones
        file = imported.value.plain()
        if not isinstance(file, str):
            source.problem(imported.line, "import_playbook takes the name of a file")
            return ()
        path = source.path.parent / file
        if not regular.is_file(path):
            source.problem(imported.line, f"there is no file {path}{nearest(path.name, _files(path.parent))}")
            return ()
        if path.resolve() in self._importing:
            source.problem(imported.line, f"{file} imports itself")
            return ()
        return self.playbook(path) if source.may_import(imported.line) else ()

    def _play(self, source: Source, element: Value, entries: Mapping[str, Entry]) -> list[Play]:
        keywords = Keywords(PLAY, "a play", source, self._templates)
        values = keywords.read(list(entries.values()))
        if "hosts" not in entries:
            source.problem(element.line, "a play needs hosts")
        elif isinstance(values.get("hosts"), str):
            self._select(source, entries["hosts"].line, values["hosts"])
        inherited = Inherited(
            values.get("strategy", "linear"),
            any_errors_fatal=values.get("any_errors_fatal", False),
            files=(source.path.resolve(),),
        )
        for name in LINEAR_ONLY:
            if values.get(name) is not None and inherited.strategy == "free":
                source.problem(entries[name].line, f"{name} needs strategy: linear (in a free play no host waits)")
        reader = TaskReader(source, self._templates, inherited.with_own(values))
        found = {
            kind: tuple(self._tasks(source, entries.get(kind), reader)) for kind in ("pre_tasks", "tasks", "handlers")
        }
        self._notified(source, [task for tasks in found.values() for task in tasks], found["handlers"])
        name = str(values.get("name") or values.get("hosts"))
        serial = values.get("serial", ())
        return [
            Play(
                name=name,
                hosts=str(values.get("hosts")),
                place=Place(source.path, element.line),
                strategy=inherited.strategy,
                gather_facts=values.get("gather_facts", True),
                vars=values.get("vars", {}),
                file_vars=self._file_vars(source, entries.get("vars_files"), values.get("vars_files", [])),
                pre_tasks=found["pre_tasks"],
                tasks=found["tasks"],
                handlers=found["handlers"],
                serial=tuple(serial) if isinstance(serial, list) else (serial,) if serial else (),
                max_fail_percentage=values.get("max_fail_percentage"),
            )
        ]

    def _select(self, source: Source, line: int, pattern: str) -> None:
        try:
            self._cluster.select(pattern)
        except UsageError as error:
            source.problem(line, str(error))

    def _tasks(self, source: Source, entry: Entry | None, reader: TaskReader) -> Iterator[Task]:
        if entry is None or entry.value.is_null:
            return
        if not entry.value.is_list:
            source.problem(entry.line, f"{entry.key} takes a list of tasks")
            return
        values = entry.value.items()
        yield from reader.handlers(values) if entry.key == "handlers" else reader.tasks(values)

    def _notified(self, source: Source, tasks: Iterable[Task], handlers: Iterable[Task]) -> None:
        known = [name for handler in handlers for name in handler.answers_to]
        for task in tasks:
            for name in task.notify:
                if name not in known:
                    source.problem(task.place.line, f'there is no handler "{name}" in this play{nearest(name, known)}')

    def _file_vars(self, source: Source, entry: Entry | None, files: list[str]) -> dict[str, Any]:
        """The variables of all vars_files; a later file overrides an earlier one."""
        found: dict[str, Any] = {}
        if entry is None or not entry.value.is_list:
            return found
        for value, name in zip(entry.value.items(), files, strict=False):
            folder = source.path.parent
            path = next((each for each in (folder / "vars" / name, folder / name) if regular.is_file(each)), None)
            if path is None:
                tried = folder / name
                source.problem(value.line, f"there is no file {tried}{nearest(tried.name, _files(tried.parent))}")
                continue
            of_file = Source(path, self._problems)
            document = of_file.read()
            if document is None or document.is_null:
                continue
            keywords = Keywords({}, "a file of variables", of_file, self._templates)
            with contextlib.suppress(Unreadable):
                found.update(keywords.variables(document))
        return found


def _imported(entries: Mapping[str, Entry]) -> Entry | None:
    return entries.get("import_playbook") or entries.get("ansible.builtin.import_playbook")


def _files(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()] if regular.is_folder(folder) else []
