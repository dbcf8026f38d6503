"""HAProxy with the configuration that `serve up` gives a head, before boards of this machine."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from clusteradm import shipped
from clusteradm.playbook.render.jinja import Templates

from .servers import Server

_MAPS = ("canary-version", "canary-percent", "clients", "scopes", "rates", "placed")


def proxy(folder: Path, boards: Sequence[Server], input_bytes: int, memory: int | None = None) -> Server:
    """Before boards whose ports are 8000 and 8001, each on its own address of the loopback; on 127.0.0.1 itself.
    `memory`: MiB of buffers; None: as of a head like this machine, by serving.yml."""
    gigabytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 30
    names = [f"board-{number}" for number in range(1, len(boards) + 1)]
    scope = {
        "serve_managed": "",
        "balancer_folder": str(folder),
        "balancer_socket": str(folder / "socket"),
        "balancer_rest_ports": [8000, 8501],
        "balancer_grpc_ports": [8001, 8500],
        "balancer_page_port": 80,
        "balancer_tls_port": 443,
        "balancer_stats_port": 8404,
        "balancer_memory": memory or min(max(gigabytes * 256, 256), 2048),
        "serve_pem": "",
        "input_bytes": input_bytes,
        "version": "2.6.12",
        "serve_tls": "",
        "serve_clients": [],
        "cluster_subnet": "127.0.0.0/8",
        "cluster_ip": "127.0.0.1",
        "workers": names,
        "head": "",
        "hostvars": {name: {"cluster_ip": board.host} for name, board in zip(names, boards, strict=True)},
    }
    text = (shipped.TEMPLATES / "head/etc/haproxy/haproxy.cfg.j2").read_text(encoding="utf-8")
    text = Templates().file(text, "haproxy.cfg.j2", scope)
    # As whoever runs this, whose addresses are all on the loopback.
    text = re.sub(r"^ +(user|group|chroot|log) .*\n", "", text, flags=re.MULTILINE).replace(
        "bind *:", "bind 127.0.0.1:"
    )
    text = re.sub(r"(sc1_conn_cur\(sources\) gt) [0-9]+", r"\1 20000", text)
    path = folder / "haproxy.cfg"
    path.write_text("# clusteradm\n" + text)
    for name in _MAPS:
        (folder / f"{name}.map").touch()
    checked = subprocess.run(["haproxy", "-c", "-f", path], capture_output=True, text=True, check=False)
    if checked.returncode:
        raise SystemExit(f"HAProxy refuses its configuration:\n{checked.stderr}")
    command = ["haproxy", "-db", "-f", path]
    return Server(
        command, {"PATH": "/usr/sbin:/usr/bin"}, folder / "log", (8000, 8001), "/v2/models/m/ready", "127.0.0.1"
    )
