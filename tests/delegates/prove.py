"""Proof of which delegate fits which runtime: python -m tests.delegates.prove, as root on x86-64.

A delegate of each generation of TensorFlow Lite's structures (delegate.c) is compiled, and loaded into each runtime
of the package index, in a process of its own. What came of it is written to clusteradm/health/tpu/delegates.yml. The
runtimes of an older Python run in the base system of a lab's board with Debian 11, which `clusteradm lab up --suite
bullseye` makes.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flatbuffers
from ai_edge_litert import schema_py_generated as schema

from clusteradm.lab import tpu_package

HERE = Path(__file__).resolve().parent
SHIM = HERE.parents[1] / "templates/node/opt/clusteradm/shim"
SHIMMED = "shim"
TABLE = HERE.parents[1] / "clusteradm/health/tpu/delegates.yml"
# Bytes of TfLiteRegistration in each generation: as TensorFlow Lite 2.5 had it, and with what was appended since.
GENERATIONS = {64: 0, 72: 1, 80: 2, 88: 3}

# Distribution -> Python of its wheels, versions.
RUNTIMES = {
    "tflite-runtime": ("3.9", ("2.7.0", "2.8.0", "2.9.1", "2.10.0", "2.11.0", "2.12.0", "2.13.0", "2.14.0")),
    "ai-edge-litert": ("3.11", ("1.1.2", "1.2.0", "1.3.0", "1.4.0", "2.0.3", "2.1.0", "2.1.6", "2.2.0", "2.3.0")),
}
_NUMPY = {"3.9": "1.24.4", "3.11": "2.2.6"}  # that all versions of the runtime can be used with
_SECONDS = 120


@dataclass(frozen=True)
class Attempt:
    """`result`: "works", "wrong" (another output than the right one), "signal N", or the last line of an error.

    `registration`: bytes of the runtime's own structure, None if the process ended before that was known.
    """

    result: str
    registration: int | None


def prepare(work: Path) -> None:
    """Write to the folder what an attempt uses: a delegate of each generation, the model, and the program."""
    flags = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared", f"-I{tpu_package.SOURCE}"]
    for size, fields in GENERATIONS.items():
        target = str(work / f"delegate-{size}.so")
        subprocess.run(["gcc", *flags, f"-DFIELDS={fields}", "-o", target, str(HERE / "delegate.c")], check=True)
    shim = (SHIM / "libedgetpu.c.j2").read_text(encoding="utf-8").replace("{{ managed }}", "")
    (work / "shim.c").write_text(shim, encoding="utf-8")
    # Behind it the delegate of the oldest generation, by the name that it has in the working folder.
    library = f'-DLIBRARY="./delegate-{min(GENERATIONS)}.so"'
    subprocess.run(
        ["gcc", *flags, library, "-o", str(work / "delegate-shim.so"), str(work / "shim.c"), "-ldl"], check=True
    )
    (work / "model.tflite").write_bytes(model())
    shutil.copy(HERE / "child.py", work)


def model() -> bytes:
    """Negated, reversed by the delegate, negated: int32 1x64. The delegate's tensors are in shared memory."""
    negative, custom, shape = 59, 32, [1, 64]
    made = schema.ModelT()
    made.version, made.buffers, made.operatorCodes, made.subgraphs = 3, [schema.BufferT()], [], [schema.SubGraphT()]
    for number, name in ((negative, None), (custom, "edgetpu-custom-op")):
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = number
        code.version, code.customCode = 1, name
        made.operatorCodes.append(code)
    graph = made.subgraphs[0]
    graph.tensors, graph.operators, graph.inputs, graph.outputs = [], [], [0], [3]
    for name in ("x", "negated", "reversed", "y"):
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type, tensor.buffer = name, shape, schema.TensorType.INT32, 0
        graph.tensors.append(tensor)
    for place, code in enumerate((0, 1, 0)):
        node = schema.OperatorT()
        node.opcodeIndex, node.inputs, node.outputs = code, [place], [place + 1]
        if code == 0:
            node.builtinOptionsType, node.builtinOptions = schema.BuiltinOptions.NegOptions, schema.NegOptionsT()
        graph.operators.append(node)
    builder = flatbuffers.Builder(512)
    builder.Finish(made.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def attempt(python: Sequence[str], runtime: str, work: Path, delegate: int | str) -> Attempt:
    """Load a delegate, by the bytes of its registration, or SHIMMED, into `runtime`, a module, in a prepared folder."""
    command = [*python, "child.py", runtime, f"./delegate-{delegate}.so", "model.tflite"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False, cwd=work)
    said: dict[str, Any] = {}
    for line in done.stdout.splitlines():
        if line.startswith("{"):
            said.update(json.loads(line))
    if done.returncode < 0:
        return Attempt(f"signal {-done.returncode}", said.get("registration"))
    if done.returncode:
        return Attempt(done.stderr.strip().splitlines()[-1], said.get("registration"))
    return Attempt(said["result"], said["registration"])


def prove(python: Sequence[str], runtime: str, work: Path, *, shim: bool = True) -> dict[int | str, Attempt]:
    """One attempt for each generation, by the bytes of its registration; `shim`: and for the oldest behind the shim."""
    delegates = (*GENERATIONS, SHIMMED) if shim else tuple(GENERATIONS)
    return {delegate: attempt(python, runtime, work, delegate) for delegate in delegates}


def registration(attempts: Mapping[int | str, Attempt]) -> int:
    """Bytes of the runtime's own TfLiteRegistration, as the attempts that did not crash have found them."""
    (size,) = {one.registration for one in attempts.values() if one.registration}
    return size


def _install(work: Path, distribution: str, version: str, python: str) -> str:
    """Install the runtime and a NumPy for this Python into a folder for PYTHONPATH; its name in `work`."""
    platforms = [f"--platform={name}_x86_64" for name in ("manylinux2014", "manylinux_2_17", "manylinux_2_27")]
    command = [
        *(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary=:all:", *platforms),
        *(f"--python-version={python}", f"--target={work / distribution}"),
        *(f"{distribution}=={version}", f"numpy=={_NUMPY[python]}"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return distribution


def _python(packages: str, base: Path | None) -> list[str]:
    """The command that starts Python in the working folder: this one, or that of the base system."""
    if base is None:
        return ["env", f"PYTHONPATH={packages}", sys.executable]
    # The mount is this command's own: the base system is an image that boards share.
    inside = f'cd /mnt && exec env PYTHONPATH={packages} python3 "$@"'
    script = f'mount --bind . {base}/mnt && exec chroot {base} sh -c {shlex.quote(inside)} sh "$@"'
    return ["unshare", "--mount", "sh", "-c", script, "sh"]


def _document(proofs: Sequence[tuple[str, str, dict[int | str, Attempt]]]) -> str:
    lines = [
        "# Which delegate each runtime can load: written by tests/delegates/prove.py, which says how it was tried.",
        "#",
        "#   registration  bytes of the runtime's TfLiteRegistration",
        "#   results       bytes of the delegate's: works; signal N, which ends the process; wrong results. shim: the",
        "#                 smallest, behind templates/node/opt/clusteradm/shim/libedgetpu.c.j2",
        "runtimes:",
    ]
    for name, version, attempts in proofs:
        results = ", ".join(f"{size}: {one.result}" for size, one in attempts.items())
        has = registration(attempts)
        lines.append(f"  - {{name: {name}, version: {version}, registration: {has}, results: {{{results}}}}}")
    return "\n".join(lines) + "\n"


def main() -> None:
    """The program."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    bases = sorted(Path("/var/cache/clusteradm").glob("base-bullseye-*"), key=lambda path: path.stat().st_mtime)
    parser.add_argument("--base", type=Path, default=bases[-1] if bases else None, help="root folder of a Debian 11")
    base = parser.parse_args().base
    if base is None:
        parser.error("no base system with Debian 11: boot a lab of it first (clusteradm lab up --suite bullseye)")
    proofs = []
    with tempfile.TemporaryDirectory(prefix="clusteradm-delegates-") as folder:
        work = Path(folder)
        prepare(work)
        for distribution, (python, versions) in RUNTIMES.items():
            for version in versions:
                packages = _install(work, distribution, version, python)
                # What is compiled here needs the C library of here.
                here = sys.version_info[:2] == tuple(map(int, python.split(".")))
                command = _python(packages, None if here else base)
                attempts = prove(command, distribution.replace("-", "_"), work, shim=here)
                proofs.append((distribution, version, attempts))
                print(distribution, version, {size: one.result for size, one in attempts.items()}, flush=True)
                shutil.rmtree(work / packages)
                if not all(re.fullmatch(r"works|wrong|signal \d+", one.result) for one in attempts.values()):
                    raise SystemExit("That proves nothing about the delegate: the table stays as it is.")
    TABLE.write_text(_document(proofs), encoding="utf-8")


if __name__ == "__main__":
    main()
