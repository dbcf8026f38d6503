"""Modules of accounts, services, file systems and the network."""

from clusteradm.node.spec.common import Table, path

MODULES: Table = {
    "group": {
        "runs": "node",
        "options": {
            "name": {"type": "str", "required": True},
            "gid": {"type": "int"},
            "system": {"type": "bool", "default": False},
            "state": {"type": "str", "default": "present", "choices": ["present", "absent"]},
        },
    },
    "hostname": {"runs": "node", "options": {"name": {"type": "str", "required": True}}},
    "mount": {
        "runs": "node",
        "collection": "ansible.posix",
        "options": {
            "path": path("name"),
            "src": {"type": "str"},
            "fstype": {"type": "str"},
            "opts": {"type": "str", "default": "defaults"},
            "state": {
                "type": "str",
                "required": True,
                "choices": ["absent", "mounted", "present", "unmounted"],
            },
        },
    },
    "systemd": {
        "runs": "node",
        "also": ["systemd_service"],
        "options": {
            "name": {"type": "str", "aliases": ["service", "unit"]},
            "state": {"type": "str", "choices": ["reloaded", "restarted", "started", "stopped"]},
            "enabled": {"type": "bool"},
            "daemon_reload": {"type": "bool", "default": False, "aliases": ["daemon-reload"]},
        },
        "required_one_of": [["state", "enabled", "daemon_reload"]],
    },
    "user": {
        "runs": "node",
        "options": {
            "name": {"type": "str", "required": True, "aliases": ["user"]},
            "uid": {"type": "int"},
            "group": {"type": "str"},
            "groups": {"type": "list"},
            "append": {"type": "bool", "default": False},
            "home": {"type": "path"},
            "shell": {"type": "path"},
            "comment": {"type": "str"},
            "system": {"type": "bool", "default": False},
            "create_home": {"type": "bool", "default": True, "aliases": ["createhome"]},
            "generate_ssh_key": {"type": "bool", "default": False},
            "ssh_key_type": {"type": "str", "default": "rsa"},
            "ssh_key_file": {"type": "path"},
            "ssh_key_comment": {"type": "str"},
            "state": {"type": "str", "default": "present", "choices": ["present"]},
        },
    },
}
