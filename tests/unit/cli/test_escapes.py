"""Text of others on its way to a terminal, a pipe or a file: whatever it says, no terminal obeys it."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import terminal
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from clusteradm.cli import show
from clusteradm.cli.escape import line, sentence, visible
from clusteradm.cli.main import main

from . import hostile

# What is written in a pipe as text of the program's own: no styles.
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
CLIPBOARD = "\x1b]52;c;ZWNobwo=\x07"
ALL = f"{CLIPBOARD}\x9b31m\x90q\x9c\x1b[2J\x7f\x00\x08\r\u202eabc\u2066[bold]x[/] [link=http://x]y[/link]\n\tz"
texts = st.lists(
    st.sampled_from(
        ["\x1b]52;c;eA==\x07", "\x1b[2J", "\x9b1m", "[bold]", "[/]", "[link=x]", "\n", "\r", "\t", "\u202e"]
    )
    | st.text(st.characters(), max_size=3),
    min_size=1,
    max_size=8,
).map("".join)


@given(st.text(st.characters()))
def test_what_is_escaped(text: str) -> None:
    shown = visible(text)
    assert not OBEYED.search(shown) and visible(shown) == shown
    assert shown == text or OBEYED.search(text)
    for one in (line(text), sentence(text)):
        assert not OBEYED.search(one) and "\n" not in one
    shown.encode()


def test_how_it_is_shown() -> None:
    assert visible("a\x1b[1m\x9b\x7f\u202e\udc9b\r\n\tb [bold]") == r"a\x1b[1m\x9b\x7f\u202e\udc9b\r" + "\n\tb [bold]"
    assert line("ok\nw1: changed\n") == r"ok\nw1: changed"
    assert sentence("no\n  route\x1b") == r"no route\x1b"


@example(text=ALL)
@example(text=f"\udc9b{ALL}\ud800")
@given(text=texts)
@settings(
    max_examples=4,
    phases=[Phase.explicit, Phase.generate],
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_no_command_passes_it_on(
    text: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Data as on a terminal; all else as in a pipe, where the program itself sends no sequence.
    monkeypatch.setattr(show, "data", lambda words: sys.stdout.write(visible(words)))
    monkeypatch.setattr(show, "data_stream", lambda: io.BufferedWriter(show._Terminal()))
    with tempfile.TemporaryDirectory() as folder:
        hostile.run(Path(folder), text)
        captured = capsys.readouterr()
        report = Path(folder, "report.html")
        for written in (captured.out, captured.err, report.read_text() if report.exists() else ""):
            found = OBEYED.search(written)
            assert not found, written[max(0, found.start() - 200) : found.end() + 20]
    assert "internal error" not in captured.err, captured.err


@pytest.mark.parametrize("width", [60, 200])
def test_no_terminal_obeys_it(tmp_path: Path, width: int) -> None:
    with terminal.command([sys.executable, hostile.__file__, tmp_path, json.dumps(ALL)], width=width) as shown:
        # The screen refuses whatever the program itself does not send.
        assert shown.finish() == 0, shown.screen.text
        text = shown.screen.text
        assert r"\x1b]52;c;ZWNobwo=\x07" in text and "[bold]x[/] [link=http://x]y[/link]" in text
        assert "internal error" not in text


def test_data_is_raw_in_a_pipe_alone(tmp_path: Path) -> None:
    hostile.prepare(tmp_path, CLIPBOARD)
    words: list[str | Path] = ["template", "show", "--host", "w1", "--playbook", tmp_path / "playbook.yml"]
    words += [tmp_path / "text.j2", "-i", tmp_path / "inventory.yml"]
    program = [sys.executable, "-m", "clusteradm", *words]
    assert subprocess.run(program, capture_output=True, check=True, text=True).stdout == f"{CLIPBOARD}\n"
    with terminal.command(program) as shown:
        assert shown.finish() == 0
        assert shown.screen.text.strip().splitlines()[-1] == r"\x1b]52;c;ZWNobwo=\x07"


def test_the_traceback_of_a_defect_is_escaped(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def defect(args: object) -> None:
        raise RuntimeError(ALL)

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr("clusteradm.cli.context.open_cluster", defect)
    assert main(["drain"]) == 1
    (log,) = tmp_path.glob("clusteradm-*.log")
    for text in (capsys.readouterr().err, log.read_text()):
        assert r"\x1b]52;c;ZWNobwo=\x07" in text and not OBEYED.search(text)
