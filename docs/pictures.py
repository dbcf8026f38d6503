"""Pictures for README.md and docs/: real commands, run on a virtual cluster of this script's own.

    sudo python docs/pictures.py

Starts a lab, makes a cluster of it, lets one Edge TPU fail, and runs `health`, `infer` and `bench` in a terminal of
COLUMNS columns. What the terminal shows at the end of a command becomes docs/pictures/NAME.svg; the pages of `health
--html`, `infer --report` and `bench --report` become docs/pictures/report.png, job.png and bench.png, as chromium shows
them. Ends the lab. Takes three or four minutes, needs root.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageChops
from rich.console import Console
from rich.terminal_theme import SVG_EXPORT_THEME
from rich.text import Text

from clusteradm.errors import ClusteradmError, HostFailed, UsageError
from clusteradm.lab.digits import data
from clusteradm.lab.plan import Places

PICTURES = Path(__file__).resolve().parent / "pictures"
DIGITS = Path(data.__file__).resolve().parent
LAB = Places("pictures")
NODES, TPUS = 4, 2
COLUMNS = 100
PAGE = (1000, 690)  # of the browser, in pixels; a picture ends where the page does
LONG = 1300  # of a page with plots


def take(folder: Path) -> None:
    """Every picture. `folder`: where the commands run, and leave their files."""
    command("lab", "up", "--name", LAB.name, "--nodes", NODES, "--tpus", TPUS)
    os.environ["CLUSTERADM_INVENTORY"] = str(LAB.inventory)
    command("bootstrap")
    compiled = folder / "digits_edgetpu.tflite"
    command("lab", "compile-model", DIGITS / "digits.tflite", "--output", compiled)
    command("deploy-model", compiled, "--name", "digits", "--labels", DIGITS / "labels.txt")
    data.write_images(data.load().held_out, folder / "digits", folder / "truth.csv")
    command("lab", "fault", "--name", LAB.name, "w3", "wedged", "--tpu", 1)
    # 3: a host or a TPU has a fault, as the picture is to show.
    picture("health", folder, ["health"], expected=3)
    job = ["infer", "--model", "digits", "digits/", "--truth", "truth.csv", "--output", "results.jsonl"]
    picture("infer", folder, job)
    page = folder / "job.html"
    command("infer", "--model", "digits", folder / "digits", "--output", folder / "again.jsonl", "--report", page)
    screenshot(page, PICTURES / "job.png", LONG)
    page = folder / "bench.html"
    picture("bench", folder, ["bench", "--model", "digits", "--tpus", "1,2,4", "--runs", "1", "--report", str(page)])
    screenshot(page, PICTURES / "bench.png", LONG)
    report = folder / "report.html"
    command("health", "--html", report, expected=3)
    screenshot(report, PICTURES / "report.png")


def command(*words: object, expected: int = 0) -> None:
    """Run one clusteradm command, its output on this script's own terminal."""
    argv = ["clusteradm", *map(str, words)]
    sys.stderr.write(f"$ {' '.join(argv)}\n")
    done = subprocess.run([sys.executable, "-m", *argv], stdout=sys.stderr, check=False)
    _expect(argv, done.returncode, expected)


def picture(name: str, folder: Path, words: Sequence[str], expected: int = 0) -> None:
    """Run one clusteradm command in a terminal, and write what that shows at the end to NAME.svg."""
    argv = ["clusteradm", *words]
    sys.stderr.write(f"$ {' '.join(argv)}\n")
    status, output = in_terminal([sys.executable, "-m", *argv], folder)
    seen = screen(output.decode("utf-8"))
    sys.stderr.write(f"{seen}\n")
    _expect(argv, status, expected)
    typed = f"\x1b[1m$ {' '.join(argv)}\x1b[0m"
    (PICTURES / f"{name}.svg").write_text(svg(f"{typed}\n{seen}", title=f"clusteradm {words[0]}"), encoding="utf-8")


def _expect(argv: Sequence[str], status: int, expected: int) -> None:
    if status != expected:
        raise HostFailed(f"{' '.join(argv)}: exit status {status}, not {expected}", next_step="its output is above")


def in_terminal(argv: Sequence[str], folder: Path) -> tuple[int, bytes]:
    """Run a program in a pseudo-terminal of COLUMNS columns; its exit status, and every byte that it wrote there."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, COLUMNS, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(COLUMNS)}
    environment.pop("NO_COLOR", None)
    process = subprocess.Popen(
        argv, cwd=folder, env=environment, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    )
    os.close(theirs)
    output = b""
    while True:
        try:
            read = os.read(ours, 65536)
        except OSError:  # EIO: the program has closed the terminal
            read = b""
        if not read:
            break
        output += read
    os.close(ours)
    return process.wait(), output


def screen(output: str) -> str:
    """Lines that a terminal shows after `output`, colours kept: a progress bar that was erased is not among them.

    Knows what rich's live displays send: erase the line, cursor up N lines, carriage return.
    """
    lines, row, overwrite = [""], 0, False
    for part in re.split(r"(\r?\n|\r|\x1b\[[0-9;?]*[A-Za-z])", output):
        control = re.fullmatch(r"\x1b\[([0-9;?]*)([A-Za-z])", part)
        if part in ("\n", "\r\n"):
            row, overwrite = row + 1, False
            lines += [""] * (row + 1 - len(lines))
        elif part == "\r":
            overwrite = True
        elif control and control[2] == "K":
            lines[row] = ""
        elif control and control[2] == "A":
            row, overwrite = max(0, row - int(control[1] or 1)), True
        elif part and (not control or control[2] == "m"):
            lines[row] = part if overwrite else lines[row] + part
            overwrite = False
    return "\n".join(lines).rstrip("\n")


def svg(shown: str, title: str) -> str:
    """A picture of a terminal. Loads no font: the viewer's own monospace one is used."""
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        console = Console(record=True, width=COLUMNS, file=nowhere, force_terminal=True, color_system="truecolor")
        console.print(Text.from_ansi(shown))
        text = console.export_svg(title=title, theme=SVG_EXPORT_THEME)
    return re.sub(r"@font-face \{.*?\}\s*", "", text, flags=re.DOTALL).replace("Fira Code, monospace", "monospace")


def screenshot(page: Path, into: Path, height: int = PAGE[1]) -> None:
    """A PNG of an HTML page, cut off below its last line, or at `height` pixels."""
    browser = shutil.which("chromium")
    if browser is None:
        raise UsageError("chromium is not installed", next_step="apt-get install chromium")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        subprocess.run(
            [
                *(browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars"),
                *("--disable-background-networking", f"--user-data-dir={profile}", f"--screenshot={into}"),
                *(f"--window-size={PAGE[0]},{height}", page.as_uri()),
            ],
            cwd=page.parent,
            check=True,
            capture_output=True,
            timeout=120,
        )
    image = Image.open(into).convert("RGB")
    empty = Image.new("RGB", image.size, image.getpixel((0, image.height - 1)))
    bounds = ImageChops.difference(image, empty).getbbox()
    bottom = min(image.height, bounds[3] + 24) if bounds else image.height
    image.crop((0, 0, image.width, bottom)).quantize(64).save(into, optimize=True)


def main() -> int:
    """Take the pictures; the lab is ended whatever happens."""
    PICTURES.mkdir(exist_ok=True)
    try:
        with tempfile.TemporaryDirectory() as folder:
            try:
                take(Path(folder))
            finally:
                command("lab", "down", "--name", LAB.name)
    except ClusteradmError as error:
        sys.stderr.write(f"pictures: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
