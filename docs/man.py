"""Manual pages, from the parsers of the command line: clusteradm(1), and one page for each command.

    python docs/man.py build/man

The parsers' help is made for 80 columns; troff fills and indents its own, so that the pages are not the help's text but
what it is made of. (argparse-manpage writes all commands into one page, and does not know our examples.)
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from clusteradm import __version__
from clusteradm.cli import commands
from clusteradm.cli.parser import Parser

_SIGNS = str.maketrans({"\\": r"\e", "-": r"\-", "`": r"\(ga", "'": r"\(aq", "~": r"\(ti", "^": r"\(ha", "\n": " "})


def main(folder: Path) -> None:
    """Write all pages."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (folder / f"{name}.1").write_text(text, encoding="utf-8")


def pages() -> dict[str, str]:
    """Each page by its name, without the section."""
    whole = commands.parser([])
    found = {"clusteradm": page(whole, "make a cluster of machines with Edge TPUs, and use it")}
    for name, (_, summary) in commands.COMMANDS.items():
        found[f"clusteradm-{name}"] = page(commands.parser([name]).child(name), summary)
    return found


def page(parser: Parser, summary: str) -> str:
    """One page. `summary`: a line that apropos finds."""
    name = parser.prog.replace(" ", "-")
    lines = [
        f'.TH "{name.upper()}" 1 "" "clusteradm {__version__}" "clusteradm"',
        # As it is printed, and so that it can be pasted.
        ".nh",
        ".SH NAME",
        rf"{_text(name)} \- {_text(summary)}",
        ".SH SYNOPSIS",
        *_synopsis(parser),
        ".SH DESCRIPTION",
        *_paragraphs(parser.description or ""),
        *_arguments(parser),
    ]
    for verb, child in parser.children.items():
        if parser.prog != "clusteradm":
            lines += [f".SH {_text(verb.upper())}", *_synopsis(child), ".PP", *_paragraphs(child.description or "")]
            lines += _arguments(child, ".SS")
            if child.epilog != parser.epilog:
                lines += _epilog(child, ".SS")
    others = ["clusteradm"] if parser.prog != "clusteradm" else [f"clusteradm-{each}" for each in commands.COMMANDS]
    see = [rf".BR {_text(other)} (1){',' if other != others[-1] else ''}" for other in others]
    return "\n".join([*lines, *_epilog(parser), ".SH SEE ALSO", *see]) + "\n"


def _synopsis(parser: Parser) -> Iterator[str]:
    yield rf".B {_text(parser.prog)}"
    yield _text(" ".join(parser._usage()))


def _arguments(parser: Parser, heading: str = ".SH") -> Iterator[str]:
    """The arguments and options in their groups, and the list of commands."""
    for group in parser._action_groups:
        shown = [action for action in group._group_actions if action.help != argparse.SUPPRESS]
        if not shown:
            continue
        yield f"{heading} {_text(str(group.title).upper())}"
        for action in shown:
            if isinstance(action, argparse._SubParsersAction):
                for each in action._get_subactions():
                    yield from (".TP", rf".B {_text(each.dest)}", _text(each.help or ""))
            else:
                yield from (".TP", _names(action), _text(_help(parser, action)))


def _names(action: argparse.Action) -> str:
    value = str(action.metavar or action.dest.upper())
    if not action.option_strings:
        return rf"\fI{_text(value)}\fR"
    names = ", ".join(rf"\fB{_text(name)}\fR" for name in action.option_strings)
    if action.nargs == 0:
        return names
    choices = "{" + ",".join(map(str, action.choices)) + "}" if action.choices and not action.metavar else value
    return rf"{names} \fI{_text(choices)}\fR"


def _help(parser: Parser, action: argparse.Action) -> str:
    return parser._get_formatter()._expand_help(action) if action.help else ""


def _epilog(parser: Parser, heading: str = ".SH") -> Iterator[str]:
    """Examples and exit status: a paragraph that begins with "WORD:" has a heading of its own."""
    for paragraph in (parser.epilog or "").strip().split("\n\n"):
        first, _, rest = paragraph.partition("\n")
        if first.endswith(":"):
            yield from (f"{heading} {_text(first[:-1].upper())}", ".nf", *map(_text, rest.splitlines()), ".fi")
        elif paragraph:
            yield from (".PP", *_paragraphs(paragraph))


def _paragraphs(text: str) -> Iterator[str]:
    for number, paragraph in enumerate(text.strip().split("\n\n")):
        if number:
            yield ".PP"
        if any(line.startswith("  ") for line in paragraph.splitlines()):
            yield from (".nf", *map(_text, paragraph.splitlines()), ".fi")
        else:
            yield _text(" ".join(paragraph.split()))


def _text(words: str) -> str:
    r"""The words for troff: its own signs escaped, "-" as it is typed, and no line that begins like a request."""
    escaped = words.translate(_SIGNS)
    return rf"\&{escaped}" if escaped.startswith((".", " ")) else escaped


if __name__ == "__main__":
    main(Path(sys.argv[1]))
