"""Child processes: a module of the node package with the ranks' Python, as a user who is not root; mpirun."""

import os
from typing import Dict, List

import clusteradm

# The ranks' Python, on every host (playbooks/runtime.yml).
PYTHON = "/opt/clusteradm/bin/python3"
# The launcher of MPI, on every host (playbooks/mpi.yml).
MPIRUN = "/opt/clusteradm/bin/mpirun"


def package_folder() -> str:
    """The folder to import `clusteradm` from: root's, readable by all, and the same on every host of one version."""
    return os.path.dirname(os.path.dirname(os.path.abspath(clusteradm.__file__)))


def environment() -> Dict[str, str]:
    """This process's environment, with the node package to be imported by a child."""
    folders = [package_folder(), *filter(None, [os.environ.get("PYTHONPATH")])]
    return dict(os.environ, PYTHONPATH=os.pathsep.join(folders))


def mpirun() -> str:
    """mpirun of the cluster; the distribution's on a host that an earlier version of bootstrap set up."""
    return MPIRUN if os.access(MPIRUN, os.X_OK) else "mpirun"


def command(python: str, module: str, *arguments: str) -> List[str]:
    """The command that runs a module of the node package; to be started with `environment()`."""
    return [python, "-m", "clusteradm.node." + module, *arguments]
