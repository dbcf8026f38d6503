"""Anonymous copy of a saved survey, for a public bug report.

Replaced consistently: names of hosts, groups and users, IP and MAC addresses, serial numbers, unique ids. Removed:
arguments of command lines, passwords, tokens, keys. The copy is judged as the original is.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from typing import Any

from clusteradm.inventory import Cluster
from clusteradm.inventory.variables import VARIABLES

_LEFT_OUT = "(left out)"
_SECRETS = (
    (re.compile(r"-----BEGIN .*?(-----END [^-]*-----|$)", re.DOTALL), _LEFT_OUT),
    (re.compile(r"(://)[^/@\s]+@"), rf"\1{_LEFT_OUT}@"),
    (re.compile(r"(?i)(passw(?:or)?d|passphrase|secret|token|api[_-]?key)([\"']?\s*[=:]\s*)\S+"), rf"\1\2{_LEFT_OUT}"),
    (re.compile(r"\b(ssh-\w+|ecdsa-[\w-]+) AAAA\S+( \S+@\S+)?"), rf"\1 {_LEFT_OUT}"),
    (re.compile(r"\bSHA256:[A-Za-z0-9+/=]+"), f"SHA256:{_LEFT_OUT}"),
    # Not a unit of systemd, getty@tty1.service.
    (re.compile(r"\b[\w.+-]+@(?![\w.:-]*\.(?:service|socket|timer|mount|path|slice))\w[\w.-]*"), "user@example.org"),
)
_MAC = re.compile(r"(?<![\w:-])(?:[0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}(?![\w:-])|(?<=\benx)[0-9a-f]{12}\b")
_LONG_ID = re.compile(r"\b(?:[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}|[0-9A-Fa-f]{32,})\b")
_IPV4 = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?!\w|\.\d)")
_IPV6 = re.compile(r"(?<![\w:.])(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}(?![\w:])")
_HOME = re.compile(r"(?<=/home/)[^/\s:'\"]+")
_SERIAL_KEY = re.compile(r"(^|[_-])(serial([_-]?number)?|uuid|cid|(unique|machine|boot)[_-]?id)$", re.IGNORECASE)
_USER_KEYS = {"user", "owner", "group", "members", "cluster_user"}
# Names that every such machine has; checks compare with some of them.
_COMMON_USERS = {"root", "apex", "nobody", "www-data", "mendel", str(VARIABLES["cluster_user"].default)}
_COMMON_GROUPS = {"head", "compute", "ungrouped"}
# The cluster's network becomes the first of these that it fits into; an address keeps its offset.
_NETWORKS = [ipaddress.IPv4Network(text) for text in ("192.0.2.0/24", "198.18.0.0/15", "10.0.0.0/8")]
# Replacements of all other addresses: those for documentation (RFC 5737), then reserved ones.
_OTHERS = [ipaddress.IPv4Network(text) for text in ("203.0.113.0/24", "198.51.100.0/24", "240.0.0.0/8")]


def anonymous(cluster: Cluster, body: Mapping[str, Any]) -> dict[str, Any]:
    """Anonymous copy of a document of `saved.document`. `cluster`: the inventory that the document was made with."""
    replacements = _Replacements(cluster, body)
    hosts = {
        replacements.hosts[name]: {
            "groups": [group if group in _COMMON_GROUPS else replacements.groups[group] for group in about["groups"]],
            "vars": replacements.clean({key: value for key, value in about["vars"].items() if key != "cluster_name"}),
        }
        for name, about in body["inventory"]["hosts"].items()
    }
    seen = {name: replacements.clean(body[name]) for name in ("documents", "cluster", "errors", "cluster_error")}
    return {**body, "anonymous": True, "inventory": {"hosts": hosts}, **seen}


class _Numbered(dict[str, str]):
    """Word -> its replacement; a word looked up for the first time gets the next one by number."""

    def __init__(self, replacement: Callable[[int], str]) -> None:
        super().__init__()
        self._replacement = replacement

    def __missing__(self, word: str) -> str:
        self[word] = self._replacement(len(self) + 1)
        return self[word]


class _Replacements:
    """All words to replace, collected before any is: a text may hold a name before the field that declares it one."""

    def __init__(self, cluster: Cluster, body: Mapping[str, Any]) -> None:
        self.hosts = _Numbered("host-{}".format)
        self.groups = _Numbered("group-{}".format)
        self._users = _Numbered("user-{}".format)
        self._serials = _Numbered("{:032x}".format)
        self._macs = _Numbered("0200{:08x}".format)
        others = chain.from_iterable(network.hosts() for network in _OTHERS)
        self._ipv4 = _Numbered(lambda number: str(next(others)))
        self._ipv6 = _Numbered("2001:db8::{:x}".format)
        self._subnet = ipaddress.IPv4Network(cluster.setting("cluster_subnet"))
        self._place = next(
            (network for network in _NETWORKS if network.prefixlen <= self._subnet.prefixlen), _NETWORKS[-1]
        )
        for name in (*cluster.hosts, *body["documents"], *body["errors"]):
            _ = self.hosts[name]
        for host in cluster.hosts.values():
            if not _IPV4.fullmatch(host.address) and ":" not in host.address:
                self.hosts.setdefault(host.address, self.hosts[host.name])
        for name, document in body["documents"].items():
            # A host's own name may differ from the inventory's.
            if isinstance(document.get("host"), str):
                self.hosts.setdefault(document["host"], self.hosts[name])
        users = {host.user for host in cluster.hosts.values()}
        for key, text in _leaves(body):
            users.update([text] if key in _USER_KEYS else [], _HOME.findall(text))
            if _SERIAL_KEY.search(key) and not set(text.lower()) <= set("0fx-"):
                _ = self._serials[text]
        for user in sorted(user for user in users if user and not user.isdigit() and user not in _COMMON_USERS):
            _ = self._users[user]
        # A host's domain is replaced together with its name.
        self._host = _any_of(self.hosts, r"(?:\.[A-Za-z][\w-]*)*")
        # A domain is replaced also after the name of a machine that is not in the inventory.
        domains = {name.partition(".")[2]: "example.org" for name in self.hosts if name.count(".") > 1}
        self._instead = {**domains, **self._users, **self._serials}
        self._other = _any_of(self._instead)

    def clean(self, value: Any, key: str = "") -> Any:
        """Anonymous copy of a value. `key`: the key that it was found under."""
        if isinstance(value, Mapping):
            by_host = set(value) <= set(self.hosts)
            return {self._key(name, by_host): self.clean(each, name) for name, each in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.clean(each, key) for each in value]
        if not isinstance(value, str):
            return value
        if key == "command":
            # Arguments hold paths, names and passwords.
            return value.split(" ")[0].rsplit("/", 1)[-1]
        return self._text(value)

    def _key(self, name: str, by_host: bool) -> str:
        if by_host:
            return self.hosts[name]
        # A key of the document's format, which may also be some host's name; or a value: an interface, an address.
        return name if re.fullmatch("[a-z_]+", name) else self._text(name)

    def _text(self, text: str) -> str:
        for pattern, instead in _SECRETS:
            text = pattern.sub(instead, text)
        text = self._host.sub(lambda found: self.hosts[found[1]], text)
        text = self._other.sub(lambda found: self._instead[found[1]], text)
        text = _LONG_ID.sub(self._long_id, text)
        text = _MAC.sub(self._mac, text)
        text = _IPV4.sub(self._address, text)
        return _IPV6.sub(self._address, text)

    def _long_id(self, found: re.Match[str]) -> str:
        known = found[0] in self._serials.values() or set(found[0].lower()) <= set("0f-")
        return found[0] if known else self._serials[found[0]]

    def _mac(self, found: re.Match[str]) -> str:
        plain = re.sub("[:-]", "", found[0]).lower()
        if plain in ("0" * 12, "f" * 12):
            return found[0]
        new = self._macs[plain]
        return ":".join(re.findall("..", new)) if len(found[0]) > len(plain) else new

    def _address(self, found: re.Match[str]) -> str:
        try:
            address = ipaddress.ip_address(found[0])
        except ValueError:
            return found[0]
        if address.is_loopback or address.is_unspecified or address.is_multicast:
            return found[0]
        if isinstance(address, ipaddress.IPv6Address):
            return self._ipv6[found[0]]
        if address in self._subnet:
            place = int(address) - int(self._subnet.network_address)
            return str(self._place.network_address + place % self._place.num_addresses)
        return found[0] if found[0].startswith("255.") else self._ipv4[found[0]]


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for name, each in value.items():
            yield from _leaves(each, name)
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from _leaves(each, key)
    elif isinstance(value, str) and value:
        yield key, value


def _any_of(words: Mapping[str, str], tail: str = "") -> re.Pattern[str]:
    """Any of the words as a whole word, the longest that fits; group 1 is the word."""
    longest_first = sorted(filter(None, words), key=len, reverse=True)
    return re.compile(rf"(?<![A-Za-z0-9])({'|'.join(map(re.escape, longest_first)) or '(?!)'}){tail}(?![A-Za-z0-9])")
