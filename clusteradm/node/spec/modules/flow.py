"""Options of the modules that run programs, prompt, print, wait or control the run."""

from clusteradm.node.spec.modules.common import Options, Table, choice

_COMMAND: Options = {
    "cmd": {"type": "str"},
    "chdir": {"type": "path"},
    "creates": {"type": "path"},
    "removes": {"type": "path"},
    "stdin": {"type": "str"},
    "stdin_add_newline": {"type": "bool", "default": True},
    "strip_empty_ends": {"type": "bool", "default": True},
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
        "free_form": "cmd",
        "options": dict(
            _COMMAND,
            argv={"type": "list"},
            expand_argument_vars={"type": "bool", "default": True},
        ),
        "required_one_of": [["cmd", "argv"]],
        "mutually_exclusive": [["cmd", "argv"]],
    },
    "debug": {
        "runs": "admin",
        "options": {
            "msg": {"type": "raw"},
            "var": {"type": "str"},
            "verbosity": {"type": "int", "default": 0},
        },
        "mutually_exclusive": [["msg", "var"]],
    },
    "fail": {"runs": "admin", "options": {"msg": {"type": "str", "default": "Failed as requested from task"}}},
    "meta": {
        "runs": "admin",
        "free_form": "free_form",
        "options": {"free_form": choice("flush_handlers", required=True)},
    },
    "reboot": {
        "runs": "admin",
        "options": {
            "pre_reboot_delay": {"type": "int", "default": 0},
            "post_reboot_delay": {"type": "int", "default": 0},
            "reboot_timeout": {"type": "int", "default": 600},
            "msg": {"type": "str", "default": "Reboot initiated by Ansible"},
        },
    },
    "set_fact": {"runs": "admin", "names": True, "options": {}},
    "shell": {
        "runs": "node",
        "free_form": "cmd",
        "options": dict(_COMMAND, executable={"type": "path", "default": "/bin/sh"}),
        "required_one_of": [["cmd"]],
    },
    "wait_for": {
        "runs": "node",
        "options": {
            "host": {"type": "str", "default": "127.0.0.1"},
            "port": {"type": "int"},
            "path": {"type": "path"},
            "search_regex": {"type": "str"},
            "state": choice("absent", "present", "started", "stopped", default="started"),
            "timeout": {"type": "int", "default": 300},
            "connect_timeout": {"type": "int", "default": 5},
            "delay": {"type": "int", "default": 0},
            "sleep": {"type": "int", "default": 1},
            "msg": {"type": "str"},
        },
        "mutually_exclusive": [["port", "path"]],
    },
    "wait_for_connection": {
        "runs": "admin",
        "options": {
            "delay": {"type": "int", "default": 0},
            "timeout": {"type": "int", "default": 600},
        },
    },
}
