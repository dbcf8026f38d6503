"""Pages of README.md, docs/ and for contributors: links, commands, paths, pictures and tables that match the code."""

from __future__ import annotations

import html
import importlib.util
import re
import runpy
import shlex
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image

from clusteradm.cli.commands import parser

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*(ROOT / "docs").glob("*.md"), *ROOT.glob("*.md")])
PICTURES = ROOT / "docs/pictures"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


def commands(page: Path) -> list[str]:
    """Commands of clusteradm in the page's code blocks, without comment and redirection."""
    blocks = re.findall(r"^ *```sh\n(.*?)^ *```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [re.split(r" [|>] ", line)[0].strip() for line in lines if line.strip().startswith("clusteradm ")]


COMMANDS = sorted({command for page in PAGES for command in commands(page)})


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_pages_is_understood(command: str) -> None:
    words = shlex.split(command, comments=True)[1:]
    # Exits where an option is unknown; nothing is run.
    assert parser(words).parse_args(words).command == words[0]


def test_there_are_commands_to_check() -> None:
    assert len(COMMANDS) > 15


def test_every_state_of_health_is_described() -> None:
    page = (ROOT / "docs/health.md").read_text()
    states = set()
    for module in (ROOT / "clusteradm/health").glob("*/*.py"):
        states |= set(re.findall(r'"([A-Z][A-Z0-9_]{2,})"', module.read_text(encoding="utf-8")))
    described = set(re.findall(r"[A-Z][A-Z0-9_]{2,}", page))
    assert states - described - {"ALIVE", "DRIVER_EXITING", "CHECK", "USABLE"} == set()  # words of sysfs, names


def test_messages_that_are_explained_exist() -> None:
    """What troubleshooting.md quotes, but for names and numbers, is a text of the program or of its playbooks."""
    files = [path for part in ("clusteradm", "playbooks", "templates") for path in (ROOT / part).rglob("*")]
    texts = [path.read_text(encoding="utf-8") for path in files if path.suffix in {".py", ".yml", ".j2", ".c"}]
    known = re.sub(r"\s+", " ", re.sub(r'"\s*\n\s*f?"', "", "\n".join(texts)))
    page = (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8")
    own = re.sub(r"\n## The Edge TPU\n.*?(?=\n## )", "", page, flags=re.DOTALL)  # there, the words are libraries'
    quoted = [
        text for cell in re.findall(r"^\| ([^|]+) \|", own, re.MULTILINE) for text in re.findall("`([^`]+)`", cell)
    ]
    pieces = [piece.strip() for text in quoted for piece in re.split(r"\.\.\.|coral-\d| / |[\d./]{2,}|[:\"]", text)]
    sentences = [piece for piece in pieces if len(piece.split()) >= 3]
    assert len(sentences) > 12
    assert [sentence for sentence in sentences if sentence not in known] == []


def test_files_named_for_contributors_exist() -> None:
    pages = [ROOT / "CONTRIBUTING.md", ROOT / "docs/design.md"]
    named = re.findall(
        r"`((?:clusteradm|docs|tests|benchmarks)/[\w./-]+)`", "".join(page.read_text() for page in pages)
    )
    examples = {name for name in named if "NAME" in name}
    assert len(named) > 30
    assert [name for name in named if name not in examples and not (ROOT / name).exists()] == []


def test_pictures_are_of_real_commands_on_simulated_hardware() -> None:
    """They load nothing, and say what they show: the command, and that the TPUs are simulated."""
    for name in ("health", "infer"):
        text = (PICTURES / f"{name}.svg").read_text(encoding="utf-8")
        shown = html.unescape(re.sub(r"<[^>]+>", "", text)).replace("\xa0", " ")
        assert f"$ clusteradm {name}" in shown
        assert "simulated" in shown.lower()
        assert re.findall(r"https?://(?!www\.w3\.org|www\.textualize\.io)[^\"' ]+", text) == []
    with Image.open(PICTURES / "report.png") as image:
        assert image.width >= 800 and image.height >= 400


def test_every_picture_is_described() -> None:
    found = [
        each for page in PAGES for each in re.findall(r"!\[([^\]]*)\]\(([^)]+)\)", page.read_text(encoding="utf-8"))
    ]
    assert {Path(path).name for _, path in found} == {path.name for path in PICTURES.iterdir()}
    assert [path for text, path in found if len(text.split()) < 5] == []


def test_the_packages_of_the_design_are_those_of_the_house() -> None:
    page = (ROOT / "docs/design.md").read_text(encoding="utf-8")
    section = page.split("## Packages")[1].split("\n## ")[0].split("Outside the package")[0]
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| ([^|]*)\|$", section, re.MULTILINE)
    arrows = runpy.run_path(str(ROOT / "tests/unit/test_house.py"))["ARROWS"]
    assert {package: set(re.findall(r"`(\w+)`", allowed)) for package, allowed in rows} == arrows


def test_a_terminal_shows_what_was_not_erased() -> None:
    """An erased progress bar is not in the picture; the lines around it are, with their colours."""
    pictures = load("pictures")
    output = "one\r\nworking 10 %\r\x1b[2Kworking 90 %\r\n\x1b[1A\x1b[2K\x1b[?25h\x1b[32mdone\x1b[0m\r\n"
    assert pictures.screen(output) == "one\n\x1b[32mdone\x1b[0m"
    assert "@font-face" not in pictures.svg("$ true", "a title")


def load(name: str) -> ModuleType:
    """A script of docs/, which is no package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / f"docs/{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_page_of_the_site_that_loads_from_another_host_is_an_error() -> None:
    pytest.importorskip("mkdocs")
    site = load("site")
    assert site.foreign('<script src="https://x.org/a.js">') == ["https://x.org/a.js"]
    assert site.foreign("<link rel=stylesheet href=//x.org/a.css>") == ["//x.org/a.css"]
    assert site.foreign('<style>@import "https://x.org/f.css"; a { src: url(https://x.org/f) }</style>') == [
        "https://x.org/f.css",
        "https://x.org/f",
    ]
    assert site.foreign('<script src="a.js"></script><a href="https://x.org">x</a>') == []
    assert site.foreign('<link rel="canonical" href="https://x.org/page">') == []


def test_links_of_the_site() -> None:
    pytest.importorskip("mkdocs")
    site = load("site")
    pages = {"index.md", "design.md", "pictures/health.svg", "contributing.md"}
    for source, text, expected in (
        ("README.md", "[a](docs/design.md#terms)", "[a](design.md#terms)"),
        ("README.md", "![a](docs/pictures/health.svg)", "![a](pictures/health.svg)"),
        ("docs/design.md", "[a](../CONTRIBUTING.md)", "[a](contributing.md)"),
        ("docs/design.md", "[the playbooks](../playbooks)", "the playbooks"),
        ("docs/design.md", "[a](gone.md)", "[a](gone.md)"),  # left for strict mode to refuse
        ("docs/design.md", "[a](https://example.org/b)", "[a](https://example.org/b)"),
    ):
        assert site.relink(text, source, pages) == expected
