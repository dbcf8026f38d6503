"""Python functions: entry points of installed packages, found without importing any of them, and called.

Packages are root's, where serve up puts them (cluster_serve_packages) or the distribution has them; nothing of the
shared file system is ever imported. importlib.metadata is no part of Python 3.7.
"""

import configparser
import functools
import importlib
import inspect
import os
import sys
from typing import Any, Dict, Iterator, List, Optional, Tuple

from clusteradm.node.serve.servables.work import Arrays, BadInput, Defect, Work, conformed
from clusteradm.node.spec.servables.problem import Problem
from clusteradm.node.spec.wire.manifest import Manifest
from clusteradm.node.spec.wire.servables import GROUP

_MOST_FILE = 1 << 20
_MOST_REASON = 500
_INSTALLED = ("site-packages", "dist-packages")


class PythonWork(Work):
    """A function of somebody's package, in a process of its own."""

    def __init__(self, manifest: Manifest, packages: Optional[str]) -> None:
        """Import and make it. Raises Problem."""
        self.inputs, self.outputs = manifest.inputs, manifest.outputs
        definition = manifest.servable.python if manifest.servable is not None else None
        assert definition is not None  # noqa: S101 - as its kind says
        self._function = _made(definition.entry_point, definition.parameters, packages)

    def run(self, step: Optional[int], inputs: Arrays) -> Arrays:
        """A call. ValueError is about the input; whatever else it raises is a defect."""
        try:
            found = self._function(inputs)
        except ValueError as error:
            raise BadInput("%s" % _text(error)) from None
        except MemoryError:
            raise Defect("it needs more memory than it may have (memory, in its definition)") from None
        except Exception as error:
            raise Defect("it raises %s: %s" % (type(error).__name__, _text(error))) from error
        return conformed(found, self.outputs)


def _text(error: BaseException) -> str:
    return " ".join(str(error).split())[:_MOST_REASON]


def _made(name: str, parameters: Dict[str, Any], packages: Optional[str]) -> Any:
    """What is called with the inputs: a function, or an object of a class. Raises Problem."""
    folders = installed(packages)
    known = dict(entry_points(folders))
    if name not in known:
        there = ", ".join(sorted(known)) or "none at all"
        raise Problem(
            "no package here has the entry point %s in the group %s (there are: %s): name the package's wheel in "
            "cluster_serve_packages of the inventory, and run clusteradm serve up" % (name, GROUP, there)
        )
    sys.path += [each for each in folders if each not in sys.path]
    module, _, path = known[name].partition(":")
    try:
        found: Any = importlib.import_module(module.strip())
        for part in path.partition("[")[0].strip().split("."):
            found = getattr(found, part)
        if inspect.isclass(found):
            made = found(**parameters)
        else:
            made = functools.partial(found, **parameters) if parameters and callable(found) else found
    except MemoryError:
        raise Problem("%s needs more memory than it may have (memory, in its definition)" % known[name]) from None
    except Exception as error:
        raise Problem("%s cannot be made: %s: %s" % (known[name], type(error).__name__, _text(error))) from error
    if not callable(made):
        raise Problem("%s is no function, and no class with __call__" % known[name])
    return made


def installed(packages: Optional[str]) -> List[str]:
    """The folders of packages: those of serve up, and those of this Python."""
    own = [packages] if packages else []
    return own + [each for each in sys.path if os.path.basename(each.rstrip("/")) in _INSTALLED]


def entry_points(folders: List[str]) -> Iterator[Tuple[str, str]]:
    """(name, "module:object") of the group, of all packages in these folders; of the same name the first folder's comes
    last, and counts."""
    for folder in reversed(folders):
        try:
            names = sorted(os.listdir(folder))
        except OSError:
            continue
        for each in names:
            if each.endswith(".dist-info"):
                yield from _group(os.path.join(folder, each, "entry_points.txt"))


def _group(path: str) -> Iterator[Tuple[str, str]]:
    parser = configparser.RawConfigParser(delimiters=("=",), strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    try:
        with open(path, encoding="utf-8") as file:
            parser.read_string(file.read(_MOST_FILE))
    except (OSError, ValueError, configparser.Error):
        return
    if parser.has_section(GROUP):
        yield from parser.items(GROUP)
