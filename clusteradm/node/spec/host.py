"""Modules of the machine itself: its kernel, its clock, the hosts that it knows."""

from clusteradm.node.spec.common import Table, choice

MODULES: Table = {
    "sysctl": {
        "runs": "node",
        "collection": "ansible.posix",
        "options": {
            "name": {"type": "str", "required": True, "aliases": ["key"]},
            "value": {"type": "str", "aliases": ["val"]},
            "state": choice("absent", "present", default="present"),
            "reload": {"type": "bool", "default": True},
            "sysctl_set": {"type": "bool", "default": False},
            "ignoreerrors": {"type": "bool", "default": False},
            "sysctl_file": {"type": "path", "default": "/etc/sysctl.conf"},
        },
    },
}
