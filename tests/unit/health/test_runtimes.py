"""Verdict on the versions of a host's runtime and libedgetpu: what was tried, and what is not known."""

from __future__ import annotations

from typing import Any

import pytest

from clusteradm.health import runtimes
from clusteradm.health.reading import Reading
from clusteradm.node.edgetpu import tflite

MISMATCH = "of different generations"
CRASH = "crashes the process (signal 11)"


def issue(*, tpus: bool = True, **found: Any) -> runtimes.Issue | None:
    about = {"ok": True, "python": "3.13.5", "litert": None, "tflite_runtime": None, "google_pycoral": None, **found}
    return runtimes.issue(Reading(about), tpus=tpus)


@pytest.mark.parametrize(
    ("found", "cause"),
    [
        (
            {"litert": "2.3.0", "package": "16.0"},
            f"ai-edge-litert 2.3.0 and libedgetpu 16.0 are {MISMATCH}: loading it {CRASH}",
        ),
        ({"litert": "2.3.0", "package": "15.0"}, CRASH),
        ({"litert": "2.3.0", "package": "16.0-0ppa1"}, CRASH),
        # A rebuilt one that is too old: it does not crash by necessity.
        ({"litert": "2.3.0", "package": "16.0tf2.12.1"}, "its results can be wrong"),
        ({"litert": "1.2.0", "package": "16.0tf2.13.1-2"}, "its results can be wrong"),
        ({"tflite_runtime": "2.14.0", "package": "16.0TF2.11.1-1"}, "its results can be wrong"),
        ({"tflite_runtime": "2.11.0", "package": "16.0"}, CRASH),
        # Published with pycoral for newer Pythons.
        ({"tflite_runtime": "2.17.1", "google_pycoral": True, "package": "16.0"}, CRASH),
        # Of two runtimes, ranks load the table's for their Python: LiteRT, or tflite_runtime where it has pycoral.
        (
            {"tflite_runtime": "2.14.0", "litert": "2.3.0", "package": "16.0", "google_pycoral": True},
            "ai-edge-litert 2.3.0 and libedgetpu 16.0",
        ),
        (
            {"tflite_runtime": "2.14.0", "litert": "2.1.0", "package": "16.0", "python": "3.9.2"},
            "tflite-runtime 2.14.0 and libedgetpu 16.0",
        ),
    ],
)
def test_a_pair_that_was_tried_and_failed(found: dict[str, Any], cause: str) -> None:
    wrong = issue(**found)
    assert wrong is not None and wrong.state == "MISMATCH" and wrong.proven
    assert cause in wrong.cause and "clusteradm bootstrap" in wrong.remedy
    # Nothing loads the library on a host without TPUs, and bootstrap leaves it.
    assert issue(tpus=False, **found) is None


@pytest.mark.parametrize(
    "found",
    [
        {"litert": "2.3.0", "package": "16.0tf2.19.1-1"},
        {"litert": "2.3.0", "package": "16.0tf2.19.1-1.trixie"},
        {"litert": "2.3.0", "package": "16.0TF2.17.1-1.bookworm"},
        {"litert": "2.3.0", "package": "16.0tf2.15.0-1"},
        {"litert": "2.1.0", "python": "3.9.2", "package": "16.0TF2.19.1-1+lab3"},
        {"litert": "2.3.0", "package": None},
        {"google_pycoral": True, "tflite_runtime": "2.5.0.post1", "python": "3.7.3", "package": "16.0"},
        {"google_pycoral": True, "tflite_runtime": "2.5.0.post1", "python": "3.7.3", "package": "14.1"},
        {"google_pycoral": True, "tflite_runtime": "2.17.1", "python": "3.12.3", "package": "16.0tf2.17.1-1"},
        # Somebody's pycoral and its runtime, which alone would not fit: ranks load neither.
        {"google_pycoral": True, "tflite_runtime": "9.9", "litert": "2.3.0", "package": "16.0tf2.19.1-1"},
        # A delegate with longer structures than the runtime's: what it does not know it does not read.
        {"tflite_runtime": "2.8.0", "python": "3.9.2", "package": "16.0tf2.19.1-1"},
        {"tflite_runtime": "2.13.0", "python": "3.9.2", "package": "16.0tf2.12.1"},
    ],
)
def test_a_pair_that_works(found: dict[str, Any]) -> None:
    assert issue(**found) is None


GOOGLES = "BuildLabel(COMPILER=6.3.0 20170516,DATE=redacted,TIME=redacted), RuntimeVersion(14)"
REBUILT = "BuildLabel(COMPILER=14.2.0,DATE=redacted,TIME=redacted), RuntimeVersion(14)"


@pytest.mark.parametrize("package", [None, "16.0tf2.19.1-1"])
def test_google_s_library_is_known_by_what_it_says(package: str | None) -> None:
    """A file that was copied to the host, or lies before the package's, has no version."""
    found = {"litert": "2.3.0", "package": package}
    wrong = issue(library=GOOGLES, **found)
    assert (
        wrong is not None
        and wrong.proven
        and "of Google's that is no package's" in wrong.cause
        and CRASH in wrong.cause
    )
    # Nothing replaces a file of no package.
    assert wrong.remedy.startswith("remove it from the host") and "clusteradm bootstrap" in wrong.remedy
    assert issue(library=REBUILT, **found) is None
    assert issue(library=GOOGLES, google_pycoral=True, tflite_runtime="2.5.0.post1", package=package) is None
    of_package = issue(library=GOOGLES, litert="2.3.0", package="16.0")
    assert of_package is not None and "libedgetpu 16.0 are" in of_package.cause


def test_behind_the_shim_the_trial_decides() -> None:
    found = {"litert": "2.3.0", "package": "16.0", "shim": True}
    assert issue(**found) is None
    about = Reading({"python": "3.13.5", **found})
    assert (
        runtimes.installed(about) == "ai-edge-litert 2.3.0, libedgetpu 16.0 behind a shim (experimental), Python 3.13.5"
    )


@pytest.mark.parametrize(
    ("found", "cause"),
    [
        ({"litert": "2.9.0", "package": "16.0tf2.19.1-1"}, "ai-edge-litert==2.9.0 is not in the table"),
        ({"litert": "2.3.0", "python": "3.8.10", "package": None}, "does not work with Python 3.8"),
        ({"litert": "2.3.0", "package": "17.0lts"}, "not known which TensorFlow Lite libedgetpu 17.0lts was built for"),
        ({"litert": "2.3.0", "package": "\x1b[31m(((((" * 50}, "not known"),
    ],
)
def test_what_was_not_tried_is_not_vouched_for(found: dict[str, Any], cause: str) -> None:
    unknown = issue(**found)
    assert unknown is not None and unknown.state == "MISMATCH" and cause in unknown.cause
    assert not unknown.proven


def test_a_pycoral_that_the_table_does_not_have_is_no_runtime() -> None:
    alone = issue(google_pycoral=True)
    assert alone is not None and alone.state == "NO_RUNTIME" and "not used with Python 3.13" in alone.cause
    assert issue(google_pycoral=True, tflite_runtime="2.5.0.post1", python="3.9.2", package="16.0") is None
    (maker,) = [row for row in runtimes.combinations() if not row.requirement]
    last = ".".join(map(str, tflite.LAST_WITH_PYCORAL))
    assert maker.python[-1] == last and max(maker.python, key=lambda text: int(text[2:])) == last


def test_what_bootstrap_installs_was_tried() -> None:
    proofs = {proof.runtime: proof for proof in runtimes.proofs()}
    for row in runtimes.combinations():
        if row.requirement:
            assert proofs[row.requirement].registration == row.registration
    # Of the rows' own libraries each fits: the rebuilt one any runtime, Google's pycoral.
    newest = runtimes.registration("16.0tf2.19.1-1")
    assert newest is not None and all(proof.results[newest] == runtimes.WORKS for proof in proofs.values())


def test_a_longer_structure_never_fits_worse() -> None:
    for proof in runtimes.proofs():
        sizes = sorted(size for size in proof.results if isinstance(size, int))
        fits = [proof.results[size] == runtimes.WORKS for size in sizes]
        assert fits == sorted(fits) and fits[-1]
        # What is at least as long as the runtime's own fits: by that bootstrap chooses (playbooks/vars/choice.yml).
        assert all(proof.results[size] == runtimes.WORKS for size in sizes if size >= proof.registration)
        # Behind the shim any is longer.
        assert proof.results.get("shim", runtimes.WORKS) == runtimes.WORKS
