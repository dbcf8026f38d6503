"""Options of the modules for packages and their sources."""

from clusteradm.node.spec.modules.common import Table, choice

MODULES: Table = {
    "apt": {
        "runs": "node",
        "options": {
            "name": {"type": "list", "aliases": ["package", "pkg"]},
            "deb": {"type": "path"},
            "state": choice("present", "latest", "absent", default="present"),
            "update_cache": {"type": "bool", "default": False, "aliases": ["update-cache"]},
            "cache_valid_time": {"type": "int", "default": 0},
            "update_cache_retries": {"type": "int", "default": 5},
            "update_cache_retry_max_delay": {"type": "int", "default": 12},
            "upgrade": choice("dist", "full", "no", "safe", "yes", default="no"),
            "default_release": {"type": "str", "aliases": ["default-release"]},
            "install_recommends": {"type": "bool", "aliases": ["install-recommends"]},
            "only_upgrade": {"type": "bool", "default": False},
            "purge": {"type": "bool", "default": False},
            "autoremove": {"type": "bool", "default": False},
            "fail_on_autoremove": {"type": "bool", "default": False},
            "autoclean": {"type": "bool", "default": False},
            "clean": {"type": "bool", "default": False},
            # It is always apt-get.
            "force_apt_get": {"type": "bool", "default": True},
            "dpkg_options": {"type": "str", "default": "force-confdef,force-confold"},
            "allow_unauthenticated": {"type": "bool", "default": False, "aliases": ["allow-unauthenticated"]},
            "allow_downgrade": {
                "type": "bool",
                "default": False,
                "aliases": ["allow-downgrade", "allow_downgrades", "allow-downgrades"],
            },
            "allow_change_held_packages": {"type": "bool", "default": False},
            # Longer than Ansible waits, see the module.
            "lock_timeout": {"type": "int", "default": 600},
        },
        "required_one_of": [["autoclean", "autoremove", "clean", "deb", "name", "update_cache", "upgrade"]],
        "mutually_exclusive": [["deb", "name", "upgrade"]],
    },
    "apt_repository": {
        "runs": "node",
        "options": {
            "repo": {"type": "str", "required": True},
            "filename": {"type": "str"},
            "mode": {"type": "mode"},
            "update_cache": {"type": "bool", "default": True, "aliases": ["update-cache"]},
            "update_cache_retries": {"type": "int", "default": 5},
            "update_cache_retry_max_delay": {"type": "int", "default": 12},
            "state": choice("present", "absent", default="present"),
        },
    },
    "deb822_repository": {
        "runs": "node",
        "options": {
            "name": {"type": "str", "required": True},
            "types": {"type": "list", "default": ["deb"]},
            "uris": {"type": "list"},
            "suites": {"type": "list"},
            "components": {"type": "list"},
            "architectures": {"type": "list"},
            "languages": {"type": "list"},
            "targets": {"type": "list"},
            "signed_by": {"type": "str"},
            "trusted": {"type": "bool"},
            "enabled": {"type": "bool"},
            "pdiffs": {"type": "bool"},
            "by_hash": {"type": "bool"},
            "allow_insecure": {"type": "bool"},
            "allow_weak": {"type": "bool"},
            "allow_downgrade_to_insecure": {"type": "bool"},
            "check_date": {"type": "bool"},
            "check_valid_until": {"type": "bool"},
            "date_max_future": {"type": "int"},
            "inrelease_path": {"type": "str"},
            "mode": {"type": "mode"},
            "state": choice("present", "absent", default="present"),
        },
    },
    "debconf": {
        "runs": "node",
        "options": {
            "name": {"type": "str", "required": True, "aliases": ["pkg"]},
            "question": {"type": "str", "aliases": ["selection", "setting"]},
            "vtype": choice(
                "boolean", "error", "multiselect", "note", "password", "seen", "select", "string", "text", "title"
            ),
            "value": {"type": "raw", "aliases": ["answer"]},
            "unseen": {"type": "bool", "default": False},
        },
    },
    "package": {
        "runs": "node",
        "options": {
            "name": {"type": "list", "required": True},
            "state": choice("present", "latest", "absent", required=True),
            "use": choice("auto", "apt", default="auto"),
        },
    },
}
