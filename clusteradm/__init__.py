"""clusteradm: provision, check and use a Beowulf cluster of machines with Edge TPUs.

`clusteradm.open` is the Python API (clusteradm/api.py, docs/python-api.md). This file is also on every board, where it
runs with Python 3.7.
"""

__version__ = "0.1.0"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from clusteradm.api import open as open
else:

    def __getattr__(name):
        # When first used: it needs Fabric, which a board does not have and which takes a quarter of a second to import.
        if name == "open":
            from clusteradm.api import open

            return open
        raise AttributeError(f"module 'clusteradm' has no attribute {name!r}")
