"""Options of the modules for the kernel, the clock, the name and known hosts."""

from clusteradm.node.spec.modules.common import Table, choice

MODULES: Table = {
    "known_hosts": {
        "runs": "node",
        "options": {
            "name": {"type": "str", "required": True, "aliases": ["host"]},
            "key": {"type": "str"},
            "path": {"type": "path", "default": "~/.ssh/known_hosts"},
            "hash_host": {"type": "bool", "default": False},
            "state": choice("absent", "present", default="present"),
        },
    },
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
    "timezone": {
        "runs": "node",
        "collection": "community.general",
        "options": {
            "name": {"type": "str"},
            "hwclock": choice("UTC", "local", aliases=["rtc"]),
        },
        "required_one_of": [["hwclock", "name"]],
    },
}
