"""Modules that run programs, ask, tell, wait or steer the run."""

from clusteradm.node.spec.common import Options, Table

_COMMAND: Options = {
    "cmd": {"type": "str"},
    "argv": {"type": "list"},
    "chdir": {"type": "path"},
    "creates": {"type": "path"},
    "removes": {"type": "path"},
    "stdin": {"type": "str"},
}

MODULES: Table = {
    "assert": {
        "runs": "admin",
        "options": {
            "that": {"type": "list", "required": True},
            "fail_msg": {"type": "str", "aliases": ["msg"]},
            "success_msg": {"type": "str"},
            "quiet": {"type": "bool", "default": False},
        },
    },
    "command": {
        "runs": "node",
        "free_form": True,
        "options": _COMMAND,
        "required_one_of": [["cmd", "argv"]],
        "mutually_exclusive": [["cmd", "argv"]],
    },
    "shell": {
        "runs": "node",
        "free_form": True,
        "options": dict(_COMMAND, executable={"type": "path", "default": "/bin/sh"}),
        "required_one_of": [["cmd"]],
    },
    "wait_for_connection": {
        "runs": "admin",
        "options": {
            "delay": {"type": "int", "default": 0},
            "timeout": {"type": "int", "default": 600},
        },
    },
}
