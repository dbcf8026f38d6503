"""Modules of the package system."""

from clusteradm.node.spec.common import Table

MODULES: Table = {
    "apt": {
        "runs": "node",
        "options": {
            "name": {"type": "list", "aliases": ["package", "pkg"]},
            "state": {"type": "str", "default": "present", "choices": ["present", "latest", "absent"]},
            "update_cache": {"type": "bool", "default": False, "aliases": ["update-cache"]},
            "cache_valid_time": {"type": "int", "default": 0},
            "install_recommends": {"type": "bool", "aliases": ["install-recommends"]},
        },
        "required_one_of": [["name", "update_cache"]],
    },
}
