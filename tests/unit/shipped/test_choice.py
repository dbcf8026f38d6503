"""Which row of runtimes.yml a host gets, and which library and driver from where, by what is found on it."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from clusteradm import shipped
from clusteradm.playbook import Templates

BUILDS = "https://github.com/feranick/libedgetpu/releases/download/16.0TF2.19.1-1/libedgetpu1-std_16.0tf2.19.1-1."
DRIVER = "https://github.com/feranick/gasket-driver/releases/download/1.0-18.4/gasket-dkms_1.0-18.4_all.deb"
GOOGLE = ["library 16.0", "library 15.0", "library 14.1", "pycoral"]


_TEMPLATES = Templates()


class Rendered(dict[str, Any]):
    """Variables that are templates of each other."""

    def __getitem__(self, name: str) -> Any:
        value = super().__getitem__(name)
        if isinstance(value, str) and "{" in value:
            value = self[name] = _TEMPLATES.string(value, self)
        return value


def host(*lines: str, offers: list[str] | None = None, **given: Any) -> Rendered:
    """A host that says these lines of itself, and whose package source offers those."""
    scope = Rendered(inventory_hostname="w1", offline=False, through_head=False, is_head=False, head="h")
    for name in ("cluster.yml", "tpu.yml", "runtimes.yml", "choice.yml"):
        scope.update(yaml.safe_load((shipped.PLAYBOOKS / "vars" / name).read_text(encoding="utf-8")))
    scope.update(
        tpu={"stdout_lines": list(lines)},
        offers={"stdout_lines": offers or []},
        groups={"head": ["h"], "compute": ["w1"]},
    )
    return Rendered(scope, **given)


TRIXIE = ("device", "python 3.13", "release debian 13", "arch amd64", "kernel 6.12.41+deb13-amd64")
BOOKWORM = ("device", "python 3.11", "release debian 12", "arch arm64", "kernel 6.1.0-21-arm64")
JAMMY = ("device", "driver", "python 3.10", "release ubuntu 22.04", "arch amd64", "kernel 6.8.0-60-generic")
RESOLUTE = ("device", "driver", "python 3.14", "release ubuntu 26.04", "arch arm64", "kernel 7.0.0-10-generic")
BULLSEYE = ("device", "python 3.9", "release debian 11", "arch amd64", "kernel 5.10.0-30-amd64")
MENDEL = (
    *("device", "library", "driver", "source", "key", "package 15.0", "pycoral"),
    *("python 3.7", "release mendel 5.0", "arch arm64", "kernel 4.14.98-imx"),
)
AMD64 = "#sha256=23be53c72eff4d44afc2f727700da185791d3ca0867bd0b5e082ec3a0de21925"
ARM64 = "#sha256=46ab47310d6de120bda4678febe5eb6143f5c7d7dd17c0d017ae5f6cd67dfec5"


@pytest.mark.parametrize(
    ("found", "row", "files"),
    [
        (TRIXIE, "ai-edge-litert 2.3.0", [BUILDS + "trixie_amd64.deb", DRIVER]),
        (BOOKWORM, "ai-edge-litert 2.3.0", [BUILDS + "bookworm_arm64.deb" + ARM64, DRIVER]),
        (JAMMY, "ai-edge-litert 2.3.0", [BUILDS + "ubuntu22.04_amd64.deb"]),
        # None is built for it: that of the release before.
        (RESOLUTE, "ai-edge-litert 2.3.0", [BUILDS + "ubuntu24.04_arm64.deb"]),
        # Google's library, which crashes LiteRT, is replaced; the rebuilt one is left.
        ((*JAMMY, "library", "package 16.0"), "ai-edge-litert 2.3.0", [BUILDS + "ubuntu22.04_amd64.deb"]),
        # So is one whose results would come out wrong.
        ((*JAMMY, "library", "package 16.0tf2.13.1-2"), "ai-edge-litert 2.3.0", [BUILDS + "ubuntu22.04_amd64.deb"]),
        ((*JAMMY, "library", "package 16.0tf2.17.1-1.ubuntu22.04"), "ai-edge-litert 2.3.0", []),
        # Copied by hand: its version is not known.
        ((*JAMMY, "library"), "ai-edge-litert 2.3.0", []),
        (MENDEL, "pycoral 2.0.0", []),
        # A pycoral that the table does not have for the host's Python is no reason for a library that does not fit.
        ((*BOOKWORM, "driver", "pycoral"), "ai-edge-litert 2.3.0", [BUILDS + "bookworm_arm64.deb" + ARM64]),
        (
            (*BOOKWORM, "driver", "pycoral", "library", "package 16.0"),
            "ai-edge-litert 2.3.0",
            [BUILDS + "bookworm_arm64.deb" + ARM64],
        ),
    ],
)
def test_what_a_host_gets_from_no_package_source(found: tuple[str, ...], row: str, files: list[str]) -> None:
    scope = host(*found)
    assert (scope["row"]["name"], scope["files"]) == (row, files)
    assert not scope["asks_source"] or "python 3.7" in found


def test_pycoral_on_bookworm() -> None:
    """From a source of the inventory: what it has for another Python does not count, in either playbook."""
    own = {"cluster_tpu_source": "deb http://mirror.example/tpu stable main"}
    scope = host(*BOOKWORM, "driver", offers=GOOGLE, **own)
    assert scope["row"]["name"] == "ai-edge-litert 2.3.0" and scope["source_library"] == ""
    assert scope["files"] == [BUILDS + "bookworm_arm64.deb" + ARM64]
    runtime = yaml.safe_load((shipped.PLAYBOOKS / "runtime.yml").read_text(encoding="utf-8"))[0]["vars"]["pycoral"]
    for python, said, pycoral in (
        ("3.11", "pycoral", []),
        ("3.11", "candidate", []),
        ("3.9", "candidate", ["candidate"]),
        ("3.7", "pycoral", ["pycoral"]),
    ):
        scope = host(python=python, runtime={"stdout_lines": [python, said]})
        assert _TEMPLATES.string(runtime, scope) == pycoral, python
    assert _TEMPLATES.string(runtime, host(python="3.7", runtime={"stdout_lines": ["3.7"]})) == []


def test_a_host_without_tpus_gets_nothing() -> None:
    scope = host(*TRIXIE[1:])
    assert not scope["needs_library"] and not scope["needs_driver"] and scope["files"] == []
    # Those that the inventory announces will need the library.
    assert host(*TRIXIE[1:], cluster_tpus=2)["files"] == [BUILDS + "trixie_amd64.deb"]


def test_the_maker_s_packages_come_first_where_they_fit_the_python() -> None:
    scope = host(*BULLSEYE, offers=GOOGLE)
    assert scope["asks_source"] and scope["row"]["name"] == "pycoral 2.0.0"
    assert scope["source_library"] == "16.0" and scope["files"] == []
    # Its driver does not build on a newer kernel.
    newer = host(*BULLSEYE[:-1], "kernel 6.1.0-0.deb11.21-amd64", offers=GOOGLE)
    assert newer["files"] == []
    newest = host(*BULLSEYE[:-1], "kernel 6.12.9", offers=GOOGLE)
    assert newest["files"] == [DRIVER]


@pytest.mark.parametrize("offers", [[], ["library 16.0", "library 15.0"]], ids=["no answer", "without pycoral"])
def test_without_the_maker_s_pycoral_the_runtime_and_the_library_are_of_one_kind(offers: list[str]) -> None:
    scope = host(*BULLSEYE, offers=offers)
    assert scope["row"]["name"] == "ai-edge-litert 2.1.0" and scope["source_library"] == ""
    assert scope["files"] == [BUILDS + "bullseye_amd64.deb", DRIVER]


def test_a_source_of_the_inventory_is_asked_on_every_host() -> None:
    both = ["library 16.0TF2.19.1-1+lab3", "library 16.0~lab3"]
    own = {"cluster_tpu_source": "deb http://mirror.example/tpu stable main"}
    for found in (TRIXIE, BULLSEYE):
        for offers in (both, both[::-1]):
            scope = host(*found, offers=offers, **own)
            assert scope["asks_source"] and scope["source_library"] == "16.0TF2.19.1-1+lab3"
            assert [file for file in scope["files"] if "libedgetpu" in file] == []
    # Google's goes with the runtime of its time.
    with_pycoral = host(*BULLSEYE, offers=[*both, "pycoral"], **own)
    assert (with_pycoral["row"]["name"], with_pycoral["source_library"]) == ("pycoral 2.0.0", "16.0~lab3")
    # It has none that fits: the table's.
    assert host(*TRIXIE, offers=both[1:], **own)["files"] == [BUILDS + "trixie_amd64.deb", DRIVER]


def test_a_release_that_nothing_is_built_for_is_told_what_helps() -> None:
    scope = host("device", "driver", "python 3.12", "release linuxmint 22", "arch amd64", "kernel 6.8.0")
    assert scope["needs_library"] and scope["files"] == []
    assert (
        "w1 (linuxmint 22, amd64, Python 3.12)" in scope["no_library"] and "cluster_tpu_source" in scope["no_library"]
    )


SQV = (
    "W: OpenPGP signature verification failed: https://mirror.example/apt stable InRelease: Sub-process /usr/bin/sqv "
    "returned an error code (1), error message is: Signing key on 35BAA0B33E9EB396F59CA838C0BA5CE6DC6315A3 is not "
    "bound:            No binding signature at time 2022-03-01T00:00:00Z   because: Policy rejected non-revocation "
    "signature (PositiveCertification) requiring second pre-image resistance   because: SHA1 is not considered secure "
    "since 2026-02-01T00:00:00Z\nE: The repository 'https://mirror.example/apt stable InRelease' is not signed."
)
MISSING = "E: Failed to fetch https://mirror.example/apt/dists/stable/InRelease  403  Forbidden [IP: 192.0.2.1 443]"


def test_what_is_wrong_with_the_source_is_told_apart() -> None:
    refused = host(*BULLSEYE, refreshed={"rc": 100, "stderr": SQV})
    assert "does not accept the signature" in refused["source_says"] and "SHA-1" in refused["source_says"]
    assert "because: SHA1 is not considered secure" in refused["source_says"]
    gone = host(*BULLSEYE, refreshed={"rc": 100, "stderr": MISSING})
    assert "cannot read" in gone["source_says"] and "403  Forbidden" in gone["source_says"]
    no_key = host(*BULLSEYE, key={"msg": "HTTP Error 403: Forbidden", "response": "", "failed": False})
    assert "cannot fetch the key" in no_key["source_says"] and "403" in no_key["source_says"]
    for well in (host(*BULLSEYE), host(*BULLSEYE, refreshed={"skipped": True}, key={"skipped": True})):
        assert well["source_says"] == ""


def test_a_host_does_without_the_maker_s_source_where_another_row_fits() -> None:
    assert host(*BULLSEYE)["goes_without"]
    assert not host(*MENDEL)["goes_without"]  # nothing is built for its Python
    assert not host(*BULLSEYE, cluster_tpu_source="deb http://mirror.example/ ./")["goes_without"]  # it was asked for


def test_with_the_shim_a_library_that_does_not_fit_is_what_is_wanted() -> None:
    both = ["library 16.0TF2.19.1-1+lab3", "library 16.0"]
    scope = host(*TRIXIE, offers=both, cluster_tpu_shim=True)
    assert scope["asks_source"] and scope["source_library"] == "16.0"
    # What is there stays, whichever it is.
    for version in ("16.0", "16.0tf2.19.1-1"):
        scope = host(*TRIXIE, "library", f"package {version}", offers=both, cluster_tpu_shim=True)
        assert not scope["needs_library"], version
    # No source has Google's: the table's, which needs no shim.
    assert host(*TRIXIE, cluster_tpu_shim=True)["library_files"] == [BUILDS + "trixie_amd64.deb"]


@pytest.mark.parametrize(
    ("asked", "said", "wants", "makes"),
    [
        (True, ["real /usr/lib/libedgetpu.so.1", "package 16.0"], True, True),
        (True, ["placed", "real /usr/lib/libedgetpu.so.1", "package 16.0", "made {made_of}"], True, False),
        # Of another library, or another runtime.
        (True, ["placed", "real /usr/lib/libedgetpu.so.1", "package 16.0", "made 5eed"], True, True),
        # What fits needs none, and a file of no package is not judged.
        (True, ["real /usr/lib/libedgetpu.so.1", "package 16.0tf2.19.1-1"], False, False),
        (True, ["placed", "real /usr/local/lib/libedgetpu.so.1"], False, False),
        (True, ["package 16.0"], False, False),
        (False, ["placed", "real /usr/lib/libedgetpu.so.1", "package 16.0"], False, False),
    ],
)
def test_where_the_shim_is_wanted_and_made(asked: bool, said: list[str], wants: bool, makes: bool) -> None:
    (play,) = yaml.safe_load((shipped.PLAYBOOKS / "shim.yml").read_text(encoding="utf-8"))
    scope = host(
        *TRIXIE, "library", "package 16.0", cluster_tpu_shim=asked, **play["vars"], shim={"stdout_lines": said}
    )
    scope["shim_source"] = "source"
    said[:] = [line.replace("{made_of}", scope["made_of"]) for line in said]
    assert (bool(scope["wants_shim"]), bool(scope["makes_shim"])) == (wants, makes)
