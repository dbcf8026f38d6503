"""`clusteradm packages`, and a bootstrap that needs packages from an address."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import lying_server as lying
import pytest
import terminal
from lying_server import Server
from made_debs import deb
from playbook.conftest import cluster, connections

from cli.test_bootstrap import bootstrap
from clusteradm.cli.main import main
from clusteradm.inventory import Cluster

__all__ = ["bootstrap", "cluster", "connections"]  # fixtures

PLAY = """\
- hosts: compute
  name: Look
  gather_facts: false
  tasks:
    - {name: Find what is needed, command: echo ADDRESS, register: look, changed_when: false, check_mode: false}
- hosts: compute
  name: Install
  gather_facts: false
  vars:
    clusteradm_fetch: "{{ [look.stdout] }}"
    package: "{{ clusteradm_files[look.stdout] }}"
  tasks:
    - assert: {that: package.error is not defined, fail_msg: "{{ package.error | default('') }}"}
    - name: Put it there
      copy: {src: "{{ package.path }}", dest: "FOLDER/{{ inventory_hostname }}.deb"}
      when: package.path is defined
"""


@pytest.fixture
def server() -> Iterator[Server]:
    with lying.running(Server(deb())) as server:
        yield server


@pytest.fixture
def run(
    bootstrap: Callable[..., int], server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., int]:
    """Runs the playbook above."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    text = PLAY.replace("ADDRESS", server.address()).replace("FOLDER", str(tmp_path))
    return lambda *options: bootstrap(text, *options)


def test_accepted_by_the_option_and_put_on_every_host(
    run: Callable[..., int], server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--accept-new") == 0
    assert [(tmp_path / f"{name}.deb").read_bytes() for name in ("w1", "w2")] == [server.body] * 2
    assert run() == 0
    assert "changed=0" in capsys.readouterr().out
    assert len(server.asked) == 1


def test_without_a_terminal_nothing_is_accepted(
    run: Callable[..., int], server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run() == 3
    out, err = capsys.readouterr()
    assert "Packages not seen before" in err and "not a terminal: nothing accepted. To accept the packages:" in err
    assert "--playbook" in err and err.rstrip().count("--accept-new") >= 1
    assert "was not accepted. When you know that it is right: clusteradm bootstrap" in " ".join(out.split())
    assert not (tmp_path / "clusteradm.lock").exists()


def test_check_mode_fetches_nothing(run: Callable[..., int], server: Server, tmp_path: Path) -> None:
    assert run("--check") == 0
    assert server.asked == [] and not (tmp_path / "clusteradm.lock").exists()


def test_list_and_forget(
    run: Callable[..., int], server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inventory = ["-i", str(tmp_path / "inventory.yml")]
    assert main(["packages", "list", *inventory]) == 0
    assert "no packages were accepted" in capsys.readouterr().err
    assert run("--accept-new") == 0
    capsys.readouterr()
    assert main(["packages", "list", "--json", *inventory]) == 0
    (entry,) = json.loads(capsys.readouterr().out)["packages"]
    assert entry["address"] == server.address() and entry["package"] == "libx" and len(entry["sha256"]) == 64
    assert main(["packages", "list", *inventory]) == 0
    assert entry["sha256"][:12] in capsys.readouterr().out
    assert main(["packages", "forget", server.address(), *inventory]) == 0
    assert f"clusteradm bootstrap {' '.join(inventory)}" in capsys.readouterr().err
    assert main(["packages", "forget", server.address(), *inventory]) == 2
    assert "there is no entry for" in capsys.readouterr().err


# The same on a terminal: `bootstrap` with the words that follow, on hosts that are this machine.
PROGRAM = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from playbook.conftest import LocalConnections
from clusteradm.cli import context
from clusteradm.cli.main import main
folder = Path(sys.argv[1])
context.connect = lambda args, cluster: LocalConnections(folder / "state")
sys.exit(main(["bootstrap", str(folder / "inventory.yml"), "--playbook", str(folder / "site.yml")]))
"""


@pytest.fixture
def words(server: Server, cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str | Path]:
    """The words of such a run."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "site.yml").write_text(PLAY.replace("ADDRESS", server.address()).replace("FOLDER", str(tmp_path)))
    return [sys.executable, "-c", PROGRAM, tmp_path]


@pytest.mark.parametrize("answer", ["y", "n"])
def test_a_person_is_asked_once(words: list[str | Path], server: Server, tmp_path: Path, answer: str) -> None:
    with terminal.command(words, width=120) as shown:
        text = shown.wait_for("Accept these packages? [y/N]")
        assert text.count("Packages not seen before") == 1
        assert f"libx 1.0-1 (all), {len(server.body):,} bytes, for w1, w2" in text and server.address() in text
        shown.type(f"{answer}\n")
        assert shown.finish() == (0 if answer == "y" else 3)
        assert shown.screen.text.count("[y/N]") == 1
    assert (tmp_path / "w2.deb").exists() == (tmp_path / "clusteradm.lock").exists() == (answer == "y")


def test_ctrl_c_ends_the_transfer_and_keeps_what_came(words: list[str | Path], server: Server, tmp_path: Path) -> None:
    server.body = deb() + bytes(4_000_000)
    server.acts = [lying.stall(3_000_000)]
    with terminal.command(words, width=120) as shown:
        shown.wait_for("3.0/4.0 MB")
        shown.type("\x03")
        assert shown.finish() == 130
        assert "interrupted" in shown.screen.text and "Traceback" not in shown.screen.text
    assert not (tmp_path / "clusteradm.lock").exists()
    with terminal.command(words, width=120) as shown:
        shown.wait_for("Accept these packages? [y/N]")
        shown.type("y\n")
        assert shown.finish() == 0
    assert server.ranges() == [None, "bytes=3000000-"]
    assert (tmp_path / "w1.deb").read_bytes() == server.body


def test_a_lock_that_is_damaged_ends_the_run_before_any_task(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "clusteradm.lock").write_text("{}")
    assert run("--accept-new") == 2
    out, err = capsys.readouterr()
    assert "it cannot be understood" in err and "Look" not in out
