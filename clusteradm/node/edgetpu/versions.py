"""Versions of this Python's inference runtime: `python3 -m clusteradm.node.edgetpu.versions`, for probe/runtime.py.

In a child process, because a library that does not fit can crash its process. No TPU is opened.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import sys

from clusteradm.node.edgetpu.library import Library, LibraryMissing

TYPE_CHECKING = False  # not imported from typing, which takes a quarter of this process's start
if TYPE_CHECKING:
    from typing import Any, Dict, List, Optional


def versions() -> Dict[str, Any]:
    """Versions by name, null for what is not installed; what libedgetpu says of itself and which devices it lists.

    {"python", "litert", "tflite_runtime", "numpy", "pillow", "mpi4py": version, "google_pycoral": see google_pycoral(),
    "pycoral": folders of that package, "library", "devices": paths, "shim": whether the library is behind one; or
    "library_error": why it cannot be loaded}
    """
    folders = [name for path in sys.path if os.path.isdir(path) for name in os.listdir(path)]
    spec = importlib.util.find_spec("pycoral")
    pycoral = None if spec is None else list(spec.submodule_search_locations or [])
    about: Dict[str, Any] = {
        "python": "%d.%d.%d" % sys.version_info[:3],
        "litert": version("ai_edge_litert", "ai_edge_litert", folders),
        "tflite_runtime": version("tflite_runtime", "tflite_runtime", folders),
        "numpy": version("numpy", "numpy", folders),
        "pillow": version("PIL", "pillow", folders),
        "mpi4py": version("mpi4py", "mpi4py", folders),
        "google_pycoral": google_pycoral(pycoral),
        "pycoral": pycoral,
    }
    try:
        library = Library()
    except LibraryMissing as error:
        about["library_error"] = error.reason
    else:
        about["library"] = library.version()
        about["shim"] = library.is_padded
        about["devices"] = [device.path for device in library.devices()]
    return about


def version(module: str, package: str, folders: List[str]) -> Optional[str]:
    """The version in the name of the package's metadata folder; "unknown" without one, None without the module.

    importlib.metadata reads the same, is not there before Python 3.8, and takes as long as all the rest of this.
    """
    if importlib.util.find_spec(module) is None:
        return None
    pattern = re.compile(re.escape(package) + r"-([^-]+)(-py[\d.]+)?\.(dist|egg)-info\Z", re.IGNORECASE)
    found = [match.group(1) for match in map(pattern.match, folders) if match]
    return found[0] if found else "unknown"


def google_pycoral(folders: Optional[List[str]]) -> Optional[bool]:
    """Whether the package `pycoral` in these folders is Google's; None where there is none.

    PyPI's pycoral is a tool for coral reefs: it has no pycoral.utils.edgetpu. It is not imported to find that out.
    """
    if folders is None:
        return None
    return any(os.path.exists(os.path.join(folder, "utils", "edgetpu.py")) for folder in folders)


def main() -> None:
    """The program."""
    sys.stdout.write(json.dumps(versions()) + "\n")


if __name__ == "__main__":
    main()
