"""The kernel's count of processes that it has ended for lack of memory, in both versions of control groups."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from clusteradm.node.job import oom

V2 = "low 0\nhigh 0\nmax 7\noom 3\noom_kill %d\noom_group_kill 0\n"
V1 = "oom_kill_disable 0\nunder_oom 0\noom_kill %d\n"
VMSTAT = "nr_free_pages 1\noom_kill %d\ndrop_pagecache 0\n"
UNIT = "sys/fs/cgroup/system.slice/clusteradm-job-1.service"


def tree(root: Path, **files: str) -> str:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(root)


@pytest.mark.parametrize(
    ("files", "group", "host"),
    [
        (  # Debian 11 and newer
            {
                "proc/self/cgroup": "0::/system.slice/clusteradm-job-1.service\n",
                f"{UNIT}/memory.events": V2 % 2,
                "proc/vmstat": VMSTAT % 5,
            },
            2,
            5,
        ),
        (  # a container, which does not see the whole host's
            {
                "proc/self/cgroup": "0::/system.slice/clusteradm-job-1.service\n",
                "sys/fs/cgroup/system.slice/memory.events": V2 % 3,
                "sys/fs/cgroup/memory.events": V2 % 4,
                "proc/vmstat": VMSTAT % 5,
            },
            3,
            4,
        ),
        (  # Debian 10
            {
                "proc/self/cgroup": "4:cpu,memory:/user.slice/user-1000.slice\n1:name=systemd:/a\n0::/user.slice\n",
                "sys/fs/cgroup/memory/user.slice/user-1000.slice/memory.oom_control": V1 % 1,
                "proc/vmstat": VMSTAT % 5,
            },
            1,
            5,
        ),
        ({"proc/self/cgroup": "0::/../../elsewhere\n", "proc/vmstat": VMSTAT % 5}, 5, 5),  # no memory accounting
        ({"proc/vmstat": "nr_free_pages 1\n"}, None, None),  # Linux before 4.13
        ({}, None, None),
    ],
)
def test_count(tmp_path: Path, files: dict[str, str], group: int | None, host: int | None) -> None:
    root = tree(tmp_path, **files)
    assert (oom.of_group(root), oom.of_host(root)) == (group, host)


def test_a_shell_counts_the_same_on_this_host() -> None:
    done = subprocess.run(["sh", "-c", oom.LOOK], stdout=subprocess.PIPE)
    assert oom.count(done.stdout) == oom.of_host()


def test_a_count_that_is_not_known_is_no_loss() -> None:
    assert [oom.since(*pair) for pair in ((None, 3), (3, None), (3, 1), (1, 3))] == [0, 0, 0, 2]
