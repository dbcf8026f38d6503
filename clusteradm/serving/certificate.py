"""Certificate that an administrator gives the endpoint: whether HAProxy could take it, before anything is sent."""

from __future__ import annotations

import ssl
from pathlib import Path

from clusteradm import regular
from clusteradm.errors import UsageError

_MOST_BYTES = 1 << 20
_NEXT = "put all of it into one file: cat SERVER.crt CHAIN.crt SERVER.key >FILE.pem"


def check(path: Path) -> None:
    """Raise UsageError for a file without a certificate and its own key in PEM, the key without a password."""
    try:
        regular.read(path, _MOST_BYTES)
    except UsageError as error:
        raise UsageError(f"cluster_serve_tls: {error.what}", where=error.where, next_step=_NEXT) from None
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(path, password=_no_password)
    except OSError as error:  # ssl.SSLError is one
        raise UsageError(f"cluster_serve_tls: {path}: {_reason(error)}", next_step=_NEXT) from None


def _no_password() -> bytes:
    raise UsageError(
        "cluster_serve_tls: its key has a password, and HAProxy has none",
        next_step="write it without: openssl pkey -in SERVER.key -out FREE.key",
    )


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLError) and error.reason == "KEY_VALUES_MISMATCH":
        return "its key is that of another certificate"
    return "no certificate and its key, in PEM"
