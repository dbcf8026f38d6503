"""Modules that make, change or read files."""

from clusteradm.node.spec.common import FILE, Options, Table, path

# What copy and template share.
_PLACED: Options = dict(
    FILE,
    mode={"type": "mode", "choices": ["preserve"]},
    dest={"type": "path", "required": True},
    backup={"type": "bool", "default": False},
    follow={"type": "bool", "default": False},
    force={"type": "bool", "default": True},
    validate={"type": "str"},
)

MODULES: Table = {
    "authorized_key": {
        "runs": "node",
        "collection": "ansible.posix",
        "options": {
            "user": {"type": "str", "required": True},
            "key": {"type": "str", "required": True},
            "key_options": {"type": "str"},
            "state": {"type": "str", "default": "present", "choices": ["present", "absent"]},
        },
    },
    "blockinfile": {
        "runs": "node",
        "options": dict(
            FILE,
            path=path("dest", "destfile", "name"),
            block={"type": "str", "default": "", "aliases": ["content"]},
            marker={"type": "str", "default": "# {mark} ANSIBLE MANAGED BLOCK"},
            insertafter={"type": "str"},
            insertbefore={"type": "str"},
            create={"type": "bool", "default": False},
            backup={"type": "bool", "default": False},
            state={"type": "str", "default": "present", "choices": ["present", "absent"]},
        ),
        "mutually_exclusive": [["insertafter", "insertbefore"]],
    },
    "copy": {
        "runs": "node",
        "options": dict(
            _PLACED,
            src={"type": "path"},
            content={"type": "raw"},
            remote_src={"type": "bool", "default": False},
            checksum={"type": "str"},
        ),
        "required_one_of": [["src", "content"]],
        "mutually_exclusive": [["src", "content"]],
    },
    "file": {
        "runs": "node",
        "options": dict(
            FILE,
            path=path("dest", "name"),
            state={"type": "str", "choices": ["absent", "directory", "file", "link", "touch"]},
            src={"type": "path"},
            recurse={"type": "bool", "default": False},
            force={"type": "bool", "default": False},
            follow={"type": "bool", "default": True},
            access_time={"type": "str"},
            access_time_format={"type": "str", "default": "%Y%m%d%H%M.%S"},
            modification_time={"type": "str"},
            modification_time_format={"type": "str", "default": "%Y%m%d%H%M.%S"},
        ),
    },
    "get_url": {
        "runs": "node",
        "options": dict(
            FILE,
            url={"type": "str", "required": True},
            dest={"type": "path", "required": True},
            checksum={"type": "str", "default": ""},
            force={"type": "bool", "default": False},
            timeout={"type": "int", "default": 10},
        ),
    },
    "lineinfile": {
        "runs": "node",
        "options": dict(
            FILE,
            path=path("dest", "destfile", "name"),
            line={"type": "str", "aliases": ["value"]},
            regexp={"type": "str", "aliases": ["regex"]},
            insertafter={"type": "str"},
            insertbefore={"type": "str"},
            create={"type": "bool", "default": False},
            backup={"type": "bool", "default": False},
            state={"type": "str", "default": "present", "choices": ["present", "absent"]},
        ),
        "mutually_exclusive": [["insertafter", "insertbefore"]],
    },
    "slurp": {"runs": "node", "options": {"src": path("path")}},
    "template": {"runs": "node", "options": dict(_PLACED, src={"type": "path", "required": True})},
}
