"""The `clusteradm` program: one command, one module, one exit status."""

from __future__ import annotations

import contextlib
import gc
import io
import os
import select
import sys
import tempfile
import traceback
from collections.abc import Sequence

from clusteradm.cli import commands
from clusteradm.cli.escape import visible
from clusteradm.cli.next_step import complete
from clusteradm.errors import ClusteradmError, Interrupted, OutputFailed, TooManyOpenFiles


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 141 where the reader of its output (head, less) has gone."""
    _open_standard_files()
    for stream in (sys.stdout, sys.stderr):
        # What a terminal's encoding lacks is no reason to fail.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        try:
            return _run(argv)
        finally:
            sys.stdout.flush()
    except KeyboardInterrupt:
        _say("clusteradm: interrupted")
        return 130
    except BrokenPipeError:
        _discard(*_without_reader())
        return 141
    except OSError as error:
        _discard(1)
        _say(f"clusteradm: error: cannot write to standard output: {error.strerror}")
        return 1


def _run(argv: Sequence[str] | None) -> int:
    arguments = list(sys.argv[1:] if argv is None else argv)
    if "_ARGCOMPLETE" in os.environ and "COMP_LINE" in os.environ:
        from clusteradm.cli import completers  # of use to a shell alone

        completers.answer(os.environ["COMP_LINE"], int(os.environ.get("COMP_POINT", "0")))
    # Modules imported here live until the exit. Collecting them again and again took a quarter of the processor time of
    # a rerun that changes nothing.
    gc.disable()
    parser = commands.parser(arguments)
    gc.freeze()
    gc.enable()
    args = parser.parse_args(arguments)
    args.typed = arguments
    program = f"clusteradm {commands.command_of(args)}"
    try:
        return int(args.run(args))
    except OutputFailed:
        raise
    except ClusteradmError as error:
        _say(f"{program}: error: {complete(str(error), args)}")
        return error.exit_code
    except Interrupted as left:
        _say(complete(f"{left.what}\n  {left.next_step}", args))
        raise
    except Exception as error:
        # A connection may break, too; that is another matter.
        if isinstance(error, BrokenPipeError) and _without_reader():
            raise
        if isinstance(error, OSError):
            sys.stdout.flush()  # raises, where that is what cannot be written to
        if TooManyOpenFiles.is_cause(error):
            _say(f"clusteradm: {TooManyOpenFiles()}")
            return TooManyOpenFiles.exit_code
        # A defect: keep the traceback, but not on the screen.
        with tempfile.NamedTemporaryFile(
            "w", prefix="clusteradm-", suffix=".log", delete=False, encoding="utf-8"
        ) as log:
            log.write(visible(traceback.format_exc()))
        _say(f"{program}: internal error: {type(error).__name__}: {error}")
        _say(f"  the traceback is in {log.name}; report it with the command that you ran")
        return 1


def _open_standard_files() -> None:
    """Give the numbers 0, 1 and 2 to /dev/null where they are closed (`>&-`): a connection would get them otherwise."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            # The lowest number that is free: this one.
            opened = os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, os.fdopen(opened, mode, encoding="utf-8", closefd=opened != number))


def _say(text: str) -> None:
    """Write a line to standard error. Without Rich: an error of the command line need not wait for its import."""
    with contextlib.suppress(OSError):  # that is full, too
        sys.stderr.write(visible(text) + "\n")


def _discard(*numbers: int) -> None:
    """Keep the interpreter from complaining once more about these files when it flushes them at exit."""
    for number in numbers:
        os.dup2(os.open(os.devnull, os.O_WRONLY), number)


def _without_reader() -> list[int]:
    """Standard output and standard error, those of them that are pipes without a reader."""
    poll = select.poll()
    for number in (1, 2):
        poll.register(number, 0)
    return [number for number, event in poll.poll(0) if event & (select.POLLERR | select.POLLHUP)]


if __name__ == "__main__":
    sys.exit(main())
