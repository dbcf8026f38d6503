"""Modules of accounts, services, file systems and the network."""

from clusteradm.node.spec.common import Table, choice, path

MODULES: Table = {
    "group": {
        "runs": "node",
        "options": {
            "name": {"type": "str", "required": True},
            "gid": {"type": "int"},
            "non_unique": {"type": "bool", "default": False},
            "system": {"type": "bool", "default": False},
            "force": {"type": "bool", "default": False},
            "state": choice("present", "absent", default="present"),
        },
    },
    "hostname": {"runs": "node", "options": {"name": {"type": "str", "required": True}}},
    "mount": {
        "runs": "node",
        "collection": "ansible.posix",
        "options": {
            "path": path("name"),
            "src": {"type": "path"},
            "fstype": {"type": "str"},
            "opts": {"type": "str", "default": "defaults"},
            "dump": {"type": "str", "default": "0"},
            "passno": {"type": "str", "default": "0"},
            "boot": {"type": "bool", "default": True},
            "backup": {"type": "bool", "default": False},
            "state": choice(
                *("absent", "absent_from_fstab", "mounted", "present", "remounted", "unmounted"), required=True
            ),
        },
    },
    "service": {
        "runs": "node",
        "options": {
            "name": {"type": "str", "required": True},
            "state": choice("reloaded", "restarted", "started", "stopped"),
            "enabled": {"type": "bool"},
            "use": choice("auto", "systemd", default="auto"),
        },
        "required_one_of": [["state", "enabled"]],
    },
    "systemd": {
        "runs": "node",
        "also": ["systemd_service"],
        "options": {
            "name": {"type": "str", "aliases": ["service", "unit"]},
            "state": choice("reloaded", "restarted", "started", "stopped"),
            "enabled": {"type": "bool"},
            "masked": {"type": "bool"},
            "force": {"type": "bool", "default": False},
            "no_block": {"type": "bool", "default": False},
            "scope": choice("system", default="system"),
            "daemon_reload": {"type": "bool", "default": False, "aliases": ["daemon-reload"]},
            "daemon_reexec": {"type": "bool", "default": False, "aliases": ["daemon-reexec"]},
        },
    },
    "user": {
        "runs": "node",
        "options": {
            "name": {"type": "str", "required": True, "aliases": ["user"]},
            "uid": {"type": "int"},
            "non_unique": {"type": "bool", "default": False},
            "group": {"type": "str"},
            "groups": {"type": "list"},
            "append": {"type": "bool", "default": False},
            "home": {"type": "path"},
            "move_home": {"type": "bool", "default": False},
            "create_home": {"type": "bool", "default": True, "aliases": ["createhome"]},
            "skeleton": {"type": "str"},
            "umask": {"type": "str"},
            "shell": {"type": "path"},
            "comment": {"type": "str"},
            "system": {"type": "bool", "default": False},
            "password": {"type": "str"},
            "update_password": choice("always", "on_create", default="always"),
            "password_lock": {"type": "bool"},
            "password_expire_max": {"type": "int"},
            "password_expire_min": {"type": "int"},
            "password_expire_warn": {"type": "int"},
            "expires": {"type": "int"},
            "generate_ssh_key": {"type": "bool", "default": False},
            "ssh_key_bits": {"type": "int", "default": 0},
            "ssh_key_type": {"type": "str", "default": "rsa"},
            "ssh_key_file": {"type": "path"},
            "ssh_key_comment": {"type": "str"},
            "force": {"type": "bool", "default": False},
            "remove": {"type": "bool", "default": False},
            "state": choice("present", "absent", default="present"),
        },
    },
}
