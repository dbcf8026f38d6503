"""Debian package sources of this machine, which the build of the image uses."""

from __future__ import annotations

import platform
import subprocess

from clusteradm.lab.suites import Suite


def mirrors(suite: Suite) -> list[str]:
    """Package source lines for `suite` from this machine's own; empty for the defaults of the build tool."""
    listing = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)", "Created-By: Packages"],
        capture_output=True,
        text=True,
        check=False,
    )
    return lines_for(suite, listing.stdout, _codename())


def lines_for(suite: Suite, listing: str, codename: str) -> list[str]:
    """`mirrors` for a listing of "URI RELEASE COMPONENT" lines on a machine that runs the release `codename`."""
    lines = []
    for entry in dict.fromkeys(listing.splitlines()):
        uri, release, component = (*entry.split(), "", "", "")[:3]
        if component != "main" or not codename:
            continue
        if release == codename:
            lines += [f"deb {uri} {suite.name} main", f"deb {uri} {suite.name}-updates main"]
        elif release == f"{codename}-security" and suite.security:
            lines.append(f"deb {uri} {suite.name}-security main")
    return lines


def apt_options() -> list[str]:
    """This machine's `Acquire` options (proxies, time-outs), as lines of an apt configuration file."""
    dump = subprocess.run(["apt-config", "dump", "Acquire"], capture_output=True, text=True, check=False).stdout
    return [line for line in dump.splitlines() if line.startswith("Acquire::") and not line.endswith(' "";')]


def _codename() -> str:
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        return ""
    return release.get("VERSION_CODENAME", "") if release.get("ID") == "debian" else ""
