"""Options of the modules that create, change or read files."""

from clusteradm.node.spec.modules.common import FILE, Options, Table, choice, path

# Options of copy and template.
_PLACED: Options = dict(
    FILE,
    mode={"type": "mode", "choices": ["preserve"]},
    dest={"type": "path", "required": True},
    backup={"type": "bool", "default": False},
    follow={"type": "bool", "default": False},
    force={"type": "bool", "default": True},
    validate={"type": "str"},
)
# Options of blockinfile and lineinfile.
_LINES: Options = dict(
    FILE,
    path=path("dest", "destfile", "name"),
    insertafter={"type": "str"},
    insertbefore={"type": "str"},
    create={"type": "bool", "default": False},
    backup={"type": "bool", "default": False},
    validate={"type": "str"},
    state=choice("present", "absent", default="present"),
)

MODULES: Table = {
    "authorized_key": {
        "runs": "node",
        "collection": "ansible.posix",
        "options": {
            "user": {"type": "str", "required": True},
            "key": {"type": "str", "required": True},
            "key_options": {"type": "str"},
            "comment": {"type": "str"},
            "exclusive": {"type": "bool", "default": False},
            "manage_dir": {"type": "bool", "default": True},
            "path": {"type": "path"},
            "state": {"type": "str", "default": "present", "choices": ["present", "absent"]},
        },
    },
    "blockinfile": {
        "runs": "node",
        "options": dict(
            _LINES,
            block={"type": "str", "default": "", "aliases": ["content"]},
            marker={"type": "str", "default": "# {mark} ANSIBLE MANAGED BLOCK"},
            marker_begin={"type": "str", "default": "BEGIN"},
            marker_end={"type": "str", "default": "END"},
            append_newline={"type": "bool", "default": False},
            prepend_newline={"type": "bool", "default": False},
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
            headers={"type": "dict"},
            backup={"type": "bool", "default": False},
            validate_certs={"type": "bool", "default": True},
        ),
    },
    "lineinfile": {
        "runs": "node",
        "options": dict(
            _LINES,
            line={"type": "str", "aliases": ["value"]},
            regexp={"type": "str", "aliases": ["regex"]},
            search_string={"type": "str"},
            backrefs={"type": "bool", "default": False},
            firstmatch={"type": "bool", "default": False},
        ),
        "mutually_exclusive": [["insertafter", "insertbefore"], ["regexp", "search_string"]],
    },
    "slurp": {"runs": "node", "options": {"src": path("path")}},
    "stat": {
        "runs": "node",
        "options": {
            "path": path("dest", "name"),
            "follow": {"type": "bool", "default": False},
            "get_checksum": {"type": "bool", "default": True},
            "checksum_algorithm": choice(
                *("md5", "sha1", "sha224", "sha256", "sha384", "sha512"),
                default="sha1",
                aliases=["checksum", "checksum_algo"],
            ),
        },
    },
    "template": {
        "runs": "node",
        "options": dict(
            _PLACED,
            src={"type": "path", "required": True},
            lstrip_blocks={"type": "bool", "default": False},
            trim_blocks={"type": "bool", "default": True},
        ),
    },
}
