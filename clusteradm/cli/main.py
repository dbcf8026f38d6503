"""The `clusteradm` program: one command, one module, one exit status."""

from __future__ import annotations

import gc
import os
import sys
import tempfile
import traceback
from collections.abc import Sequence

from clusteradm.cli import commands
from clusteradm.errors import ClusteradmError, TooManyOpenFiles


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    # Modules imported here live until the exit. Collecting them again and again took a quarter of the processor time of
    # a rerun that changes nothing.
    gc.disable()
    parser = commands.parser(arguments)
    gc.freeze()
    gc.enable()
    args = parser.parse_args(arguments)
    program = f"clusteradm {commands.command_of(args)}"
    try:
        return int(args.run(args))
    except ClusteradmError as error:
        print(f"{program}: error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("clusteradm: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader (head, less) has gone; keep the interpreter from complaining again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:
        if TooManyOpenFiles.is_cause(error):
            print(f"clusteradm: {TooManyOpenFiles()}", file=sys.stderr)
            return TooManyOpenFiles.exit_code
        # A defect: keep the traceback, but not on the screen.
        with tempfile.NamedTemporaryFile("w", prefix="clusteradm-", suffix=".log", delete=False) as log:
            traceback.print_exc(file=log)
        print(f"{program}: internal error: {type(error).__name__}: {error}", file=sys.stderr)
        print(f"  the traceback is in {log.name}; report it with the command that you ran", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
