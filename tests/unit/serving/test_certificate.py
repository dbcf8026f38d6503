"""Certificate of the endpoint: what HAProxy could not take is refused before anything is sent."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from clusteradm.errors import UsageError
from clusteradm.serving import certificate


def made(folder: Path, name: str, *more: str) -> tuple[str, str]:
    """A certificate and its key."""
    crt, key = folder / f"{name}.crt", folder / f"{name}.key"
    words = ("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-days", "2")
    subprocess.run([*words, *more, "-subj", "/CN=x", "-keyout", key, "-out", crt], check=True, capture_output=True)
    return crt.read_text(), key.read_text()


def test_what_haproxy_could_not_take_is_refused(tmp_path: Path) -> None:
    crt, key = made(tmp_path, "one", "-nodes")
    _, other = made(tmp_path, "other", "-nodes")
    _, locked = made(tmp_path, "locked", "-passout", "pass:secret")
    path = tmp_path / "given.pem"
    path.write_text(crt + key)
    certificate.check(path)
    path.write_text(key + crt)
    certificate.check(path)
    for text, said in (
        ("", "no certificate and its key"),
        ("hello\n", "no certificate and its key"),
        (crt, "no certificate and its key"),
        (key, "no certificate and its key"),
        (crt + other, "its key is that of another certificate"),
        (crt + locked, "its key has a password"),
        ("x" * (2 << 20), "given.pem"),
    ):
        path.write_text(text)
        with pytest.raises(UsageError) as refused:
            certificate.check(path)
        assert said in str(refused.value) and "secret" not in str(refused.value)
    os.mkfifo(tmp_path / "fifo")
    for name in ("nothing.pem", "fifo", "."):
        with pytest.raises(UsageError, match="cluster_serve_tls"):
            certificate.check(tmp_path / name)
