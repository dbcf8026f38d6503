"""What should be the same on every host, and is not: packages that talk to one another, and kernels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from clusteradm.health.finding import Finding, doubtful

CHECK = "drift"
BOOTSTRAP = "apt-get update && apt-get install {} on the host, then clusteradm bootstrap"


def judge(documents: Mapping[str, Mapping[str, Any]]) -> Iterator[Finding]:
    """A finding for each host that has another version than most of the others. A tie accuses nobody in particular."""
    versions: dict[str, dict[str, str]] = {}
    for name, document in documents.items():
        for package, version in document.get("machine", {}).get("packages", {}).items():
            versions.setdefault(package, {})[name] = version
    for package, of_host in sorted(versions.items()):
        usual = _usual(of_host)
        for name, version in of_host.items():
            if version != usual:
                cause = f"{package} is {version} here and {usual} on most hosts"
                yield doubtful(name, CHECK, "PACKAGES", cause, BOOTSTRAP.format(package))
    kernels = {
        name: str(document["system"]["kernel"])
        for name, document in documents.items()
        if document.get("system", {}).get("kernel")
    }
    usual = _usual(kernels)
    for name, kernel in kernels.items():
        if kernel != usual and _same_kind(documents, name, usual, kernels):
            cause = f"the kernel is {kernel} here and {usual} on most hosts like it"
            yield doubtful(name, CHECK, "KERNEL", cause, "update its kernel and reboot it when no job runs on it")


def _usual(values: Mapping[str, str]) -> str:
    """The most frequent; of several, the one that comes first."""
    return Counter(values.values()).most_common(1)[0][0] if values else ""


def _same_kind(documents: Mapping[str, Mapping[str, Any]], name: str, usual: str, kernels: Mapping[str, str]) -> bool:
    """Whether hosts of the same model have the usual kernel: a board and a PC never have the same one."""
    model = documents[name]["system"].get("model")
    return any(kernels[other] == usual and documents[other]["system"].get("model") == model for other in kernels)
