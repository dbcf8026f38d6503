"""The inference runtime: which Python, TFLite runtime, pycoral and libedgetpu the ranks would use.

Asked of that Python itself, in a child process as the cluster user: a library that does not fit can crash its process.
No TPU is opened: edgetpu_list_devices only reads sysfs. Whether it all works is the trial's question (trial.py).
"""

import json
import subprocess
from typing import Any, Dict, Optional

from clusteradm.node.probe.attempt import attempt
from clusteradm.node.probe.trial import PYTHON

_SECONDS = 30.0

# The versions are those in the names of the packages' folders: importlib.metadata reads the same, is not there before
# Python 3.8, and takes half of the whole question's time.
_QUESTION = r"""
import ctypes, importlib.util, json, os, re, sys
folders = [name for path in sys.path if os.path.isdir(path) for name in os.listdir(path)]
def version(module, package):
    if importlib.util.find_spec(module) is None:
        return None
    pattern = re.compile(re.escape(package) + r"-([^-]+)(-py[\d.]+)?\.(dist|egg)-info\Z", re.IGNORECASE)
    found = [match.group(1) for match in map(pattern.match, folders) if match]
    return found[0] if found else "unknown"
def google_pycoral(folders):
    # PyPI's pycoral is a tool for coral reefs: it has no pycoral.utils.edgetpu. It is not imported to find that out.
    if folders is None:
        return None
    return any(os.path.exists(os.path.join(folder, "utils", "edgetpu.py")) for folder in folders)
spec = importlib.util.find_spec("pycoral")
pycoral = None if spec is None else list(spec.submodule_search_locations or [])
about = {"python": "%d.%d.%d" % sys.version_info[:3], "litert": version("ai_edge_litert", "ai_edge_litert"),
         "tflite_runtime": version("tflite_runtime", "tflite_runtime"), "numpy": version("numpy", "numpy"),
         "pillow": version("PIL", "pillow"), "mpi4py": version("mpi4py", "mpi4py"),
         "google_pycoral": google_pycoral(pycoral), "pycoral": pycoral}
try:
    library = ctypes.CDLL("libedgetpu.so.1")
except OSError as error:
    about["library_error"] = str(error)
else:
    class Device(ctypes.Structure):
        _fields_ = [("type", ctypes.c_int), ("path", ctypes.c_char_p)]
    library.edgetpu_version.restype = ctypes.c_char_p
    about["library"] = library.edgetpu_version().decode()
    library.edgetpu_list_devices.restype = ctypes.POINTER(Device)
    library.edgetpu_list_devices.argtypes = [ctypes.POINTER(ctypes.c_size_t)]
    count = ctypes.c_size_t(0)
    found = library.edgetpu_list_devices(ctypes.byref(count))
    about["devices"] = [found[i].path.decode() for i in range(count.value)]
print(json.dumps(about))
"""


def probe(root: str, options: Dict[str, Any]) -> Dict[str, Any]:
    """Versions by name (None: not installed), and the devices that the library lists."""
    return {"package": package("libedgetpu1-std") or package("libedgetpu1-max"), **ask(options["user"])}


def package(name: str) -> Optional[str]:
    """The installed version of a Debian package."""
    done = subprocess.run(
        ["dpkg-query", "-W", "-f", "${db:Status-Status} ${Version}", name],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        timeout=10,
    )
    status, _, version = done.stdout.decode("utf-8", "replace").partition(" ")
    return version if status == "installed" else None


def ask(user: str) -> Dict[str, Any]:
    """What the ranks' Python says of itself."""
    return attempt(user, _SECONDS, _question)


def _question() -> Dict[str, Any]:
    done = subprocess.run([PYTHON, "-c", _QUESTION], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd="/")
    if done.returncode < 0:
        return {"ok": False, "error": "Python ended by signal %d" % -done.returncode, "signal": -done.returncode}
    if done.returncode:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
        return {"ok": False, "error": lines[-1] if lines else "Python ended with %d" % done.returncode}
    about: Dict[str, Any] = json.loads(done.stdout.decode("utf-8"))
    return about
