"""Parser of the command line: whole option names only, errors with the nearest name, help that fits 80 columns."""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, ClassVar, NoReturn, TypeVar

from clusteradm.cli.escape import visible
from clusteradm.errors import UsageError
from clusteradm.nearest import nearest

USAGE_STATUS = 2
_USAGE_WIDTH = 72
# Column where the help of an option begins.
_HELP_COLUMN = 28

T = TypeVar("T")


def checked(check: Callable[[str], T]) -> Callable[[str], T]:
    """The type of an argument that is read by `check`, whose UsageError is one of this argument."""

    def read(text: str) -> T:
        try:
            return check(text)
        except UsageError as error:
            raise argparse.ArgumentTypeError(error.what) from None

    return read


class Formatter(argparse.HelpFormatter):
    """Help text. A paragraph with an indented line (an example, a list) stays as it is; others are filled."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=_HELP_COLUMN)

    def _format_action(self, action: argparse.Action) -> str:
        """The commands without a line of their own for "COMMAND"."""
        text = super()._format_action(action)
        return text.partition("\n")[2] if isinstance(action, argparse._SubParsersAction) else text

    def _iter_indented_subactions(self, action: argparse.Action) -> Generator[argparse.Action, None, None]:
        """The commands, in the column of the options."""
        if isinstance(action, argparse._SubParsersAction):
            yield from action._get_subactions()

    def _format_action_invocation(self, action: argparse.Action) -> str:
        """ "-i, --inventory FILE": the value once, after the last name."""
        if len(action.option_strings) < 2 or action.nargs == 0:
            return super()._format_action_invocation(action)
        *names, last = action.option_strings
        return f"{', '.join(names)}, {last} {self._format_args(action, action.dest.upper())}"

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n\n".join(_filled(paragraph, width) for paragraph in text.strip().split("\n\n"))


def _filled(paragraph: str, width: int) -> str:
    if any(line.startswith("  ") for line in paragraph.splitlines()):
        return paragraph
    return textwrap.fill(" ".join(paragraph.split()), width, break_on_hyphens=False, break_long_words=False)


class Parser(argparse.ArgumentParser):
    """Parser of the program, of a command or of a verb.

    `lenient`: words are missing as long as a shell completes them; nothing is refused then.
    """

    lenient: ClassVar[bool] = False

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"allow_abbrev": False, "formatter_class": Formatter, **options})
        # Python 3.14 colours help by default.
        self.color = False
        self._positionals.title = "arguments"

    def add_commands(self, dest: str, *, required: bool = True) -> Commands:
        """Commands (or a command's verbs) below this one. `dest`: where its name is put."""
        self._positionals.title = "commands"
        return Commands(self.add_subparsers(dest=dest, metavar="COMMAND", required=required))

    @property
    def children(self) -> dict[str, Parser]:
        """Parsers of the commands or verbs below this one, by name."""
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                return dict(action.choices)
        return {}

    def child(self, name: str) -> Parser:
        """The parser of a command or verb below this one; an unknown one ends the program as a usage error."""
        if name not in self.children:
            hint = nearest(name, self.children) if self.children else f"; {self.prog} has no commands"
            self.error(f"unknown command {name!r}{hint}")
        return self.children[name]

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse, refusing what is unknown here: the error then names the command that was typed.

        An option that is not known is reported before an argument that is missing.
        """
        words = list(sys.argv[1:] if args is None else args)
        if self.lenient:
            return super().parse_known_args(words, namespace)
        if self.children and not words:
            self.print_help(sys.stderr)
            self.exit(USAGE_STATUS)
        self._refuse_unknown_options(words)
        found, extra = super().parse_known_args(words, namespace)
        if extra:
            what = "unknown option" if extra[0].startswith("-") else "unexpected argument"
            self.error(f"{what} {extra[0]}")
        return found, extra

    def _refuse_unknown_options(self, words: Sequence[str]) -> None:
        # The words from a command on are another parser's, or another program's.
        ends = any(action.nargs in (argparse.PARSER, argparse.REMAINDER) for action in self._actions)
        for word in words:
            if word == "--" or (ends and not word.startswith("-")):
                return
            name = word.partition("=")[0]
            if name.startswith("--") and " " not in name and name not in self._option_string_actions:
                known = (known for known in self._option_string_actions if known.startswith("--"))
                self.error(f"unknown option {name}{nearest(name, known)}")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Refuse a command, a verb or a choice that there is not, with the nearest one or all of them."""
        if action.choices is None or value in action.choices:
            return
        known = [str(choice) for choice in action.choices]
        hint = nearest(str(value), known) or f" (known: {', '.join(known)})"
        if isinstance(action, argparse._SubParsersAction):
            self.error(f"unknown command {value!r}{hint}")
        raise argparse.ArgumentError(action, f"invalid choice: {value!r}{hint}")

    def error(self, message: str) -> NoReturn:
        """Write one line with the error, one with the command that shows the help, and exit with status 2."""
        words = ["clusteradm", "help", *self.prog.split()[1:]]
        self.exit(USAGE_STATUS, f"{self.prog}: error: {message}\n  see: {' '.join(words)}\n")

    def _print_message(self, message: str, file: Any = None) -> None:
        """Write help or an error, which may quote an argument."""
        (file or sys.stderr).write(visible(message))

    def format_help(self) -> str:
        """Help, with the usage in short: the options are listed below it."""
        usage = " ".join([self.prog, *self._usage()])
        self.usage = textwrap.fill(usage, _USAGE_WIDTH, subsequent_indent=" " * len("usage: "), break_on_hyphens=False)
        return super().format_help()

    def _usage(self) -> Iterator[str]:
        yield "[OPTIONS]"
        exclusive = [action for group in self._mutually_exclusive_groups for action in group._group_actions]
        for action in self._actions:
            if action.option_strings and action.required and action not in exclusive:
                yield f"{action.option_strings[-1]} {_metavar(action)}"
        for group in self._mutually_exclusive_groups:
            if group.required:
                yield f"({' | '.join(_brief(action) for action in group._group_actions)})"
        for action in self._actions:
            if not action.option_strings:
                yield _positional(action)


class Commands:
    """The commands below a parser."""

    def __init__(self, action: argparse._SubParsersAction[Parser]) -> None:
        self._action = action

    def add(self, name: str, summary: str, *, description: str | None = None, examples: str = "") -> Parser:
        """Add one. `summary`: its line in the list; `description`: above its own help, the summary if not given."""
        text = description or f"{summary[:1].upper()}{summary[1:]}."
        return self._action.add_parser(name, help=summary, description=text, epilog=examples or None)


def _metavar(action: argparse.Action) -> str:
    return str(action.metavar or action.dest.upper())


def _brief(action: argparse.Action) -> str:
    name = action.option_strings[-1]
    return name if action.nargs in (0, "?") else f"{name} {_metavar(action)}"


def _positional(action: argparse.Action) -> str:
    name = _metavar(action)
    shapes = {"?": f"[{name}]", "*": f"[{name} ...]", "+": f"{name} ...", argparse.PARSER: f"{name} ..."}
    shapes[argparse.REMAINDER] = f"[{name} ...]"
    return shapes.get(str(action.nargs), name)
