"""Ansible's filters and tests that a playbook may use beside Jinja's own: the same names, parameters and results."""

from __future__ import annotations

import base64
import datetime
import functools
import hashlib
import ipaddress
import itertools
import json
import operator
import posixpath
import re
import shlex
import time
from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jinja2
from jinja2 import pass_environment
from jinja2.filters import do_default

from clusteradm import regular
from clusteradm.inventory.yaml_text import check_nodes, check_text
from clusteradm.playbook.render import regex
from clusteradm.playbook.render.limits import counted
from clusteradm.playbook.render.undefined import Deferred, Undefined, strict, use
from clusteradm.playbook.result import Forecast


def to_bool(value: Any) -> bool:
    """Ansible's `bool`: true for yes, on, true and 1 in any case; false for anything else."""
    return str(value).lower() in ("yes", "on", "true", "1")


def _default(value: Any, default_value: Any = "", boolean: bool = False) -> Any:
    return do_default(_known(value), default_value, boolean)


def _known(value: Any) -> Any:
    """The value, or Undefined; raises if its rendering failed."""
    return use(value) if isinstance(value, Deferred) else value


def _to_json(value: Any, **options: Any) -> str:
    return json.dumps(value, **options)


def _to_nice_json(value: Any, indent: int = 4, sort_keys: bool = True) -> str:
    return json.dumps(value, indent=indent, sort_keys=sort_keys, separators=(",", ": "))


def _to_yaml(value: Any, default_flow_style: bool | None = None, **options: Any) -> str:
    import yaml

    text: str = yaml.safe_dump(value, allow_unicode=True, default_flow_style=default_flow_style, **options)
    return text


def _b64encode(value: Any, encoding: str = "utf-8") -> str:
    return base64.b64encode(str(value).encode(encoding)).decode("ascii")


def _b64decode(value: Any, encoding: str = "utf-8") -> str:
    return base64.b64decode(str(value)).decode(encoding)


def _flags(ignorecase: bool, multiline: bool) -> int:
    return (re.I if ignorecase else 0) | (re.M if multiline else 0)


def _regex_replace(
    value: Any = "",
    pattern: str = "",
    replacement: str = "",
    ignorecase: bool = False,
    multiline: bool = False,
    count: int = 0,
) -> str:
    return regex.sub(pattern, _flags(ignorecase, multiline), str(value), replacement, count)


def _regex_findall(value: Any, pattern: str, multiline: bool = False, ignorecase: bool = False) -> list[Any]:
    return regex.findall(pattern, _flags(ignorecase, multiline), str(value))


def _regex_search(value: Any, pattern: str, *groups: str, ignorecase: bool = False, multiline: bool = False) -> Any:
    wanted = [_group(group) for group in groups]
    found = regex.groups("search", pattern, _flags(ignorecase, multiline), str(value), wanted)
    if found is None:
        return None
    return found[1:] if groups else found[0]


def _group(reference: str) -> str | int:
    """The group that `\\1` or `\\g<name>` refers to."""
    match = re.fullmatch(r"\\(?:(\d+)|g<(\S+)>)", reference)
    if not match:
        raise ValueError(f"regex_search: {reference!r} is neither \\NUMBER nor \\g<NAME>")
    return int(match[1]) if match[1] else match[2]


def _hash(value: Any, hashtype: str = "sha1") -> str:
    return hashlib.new(hashtype, str(value).encode()).hexdigest()


def _unique(values: Iterable[Any]) -> list[Any]:
    found: list[Any] = []
    for value in values:
        if value not in found:
            found.append(value)
    return found


def _union(a: Sequence[Any], b: Sequence[Any]) -> list[Any]:
    return _unique([*a, *b])


def _intersect(a: Sequence[Any], b: Sequence[Any]) -> list[Any]:
    return _unique(value for value in a if value in b)


def _difference(a: Sequence[Any], b: Sequence[Any]) -> list[Any]:
    return _unique(value for value in a if value not in b)


def _flatten(values: Iterable[Any], levels: int | None = None, skip_nulls: bool = True) -> list[Any]:
    flat: list[Any] = []
    for value in values:
        if skip_nulls and value in (None, "None", "null"):
            continue
        if isinstance(value, list | tuple) and (levels is None or levels >= 1):
            flat += _flatten(value, None if levels is None else levels - 1, skip_nulls)
        else:
            flat.append(value)
    return flat


def _combine(*terms: Any, recursive: bool = False) -> dict[Any, Any]:
    combined: dict[Any, Any] = {}
    for mapping in _flatten(terms, levels=1):
        for key, value in mapping.items():
            both = isinstance(value, Mapping) and isinstance(combined.get(key), Mapping)
            combined[key] = _combine(combined[key], value, recursive=True) if recursive and both else value
    return combined


def _dict2items(value: Mapping[Any, Any], key_name: str = "key", value_name: str = "value") -> list[dict[str, Any]]:
    return [{key_name: key, value_name: element} for key, element in value.items()]


@pass_environment
def _extract(environment: jinja2.Environment, item: Any, container: Any, morekeys: Any = None) -> Any:
    value = environment.getitem(container, item)
    for key in [] if morekeys is None else morekeys if isinstance(morekeys, list) else [morekeys]:
        value = environment.getitem(value, key)
    return value


def _items2dict(values: Iterable[Any], key_name: str = "key", value_name: str = "value") -> dict[Any, Any]:
    return {value[key_name]: value[value_name] for value in values}


def _subelements(values: Any, subelements: str | list[str], skip_missing: bool = False) -> list[Any]:
    path = subelements.split(".") if isinstance(subelements, str) else subelements
    pairs = []
    for value in list(values.values()) if isinstance(values, Mapping) else values:
        inner: Any = value
        for key in path:
            if key not in inner and not skip_missing:
                raise ValueError(f"subelements: there is no key {key!r} in {inner!r}")
            inner = inner.get(key, [])
        pairs += [[value, element] for element in inner]
    return pairs


def _mandatory(value: Any, msg: str | None = None) -> Any:
    if isinstance(value, Undefined) and msg is not None:
        use(_known(value) if isinstance(value, Deferred) else Undefined(hint=msg))
    return use(value)


def _to_nice_yaml(value: Any, indent: int = 4, **options: Any) -> str:
    return _to_yaml(value, default_flow_style=False, indent=indent, **options)


def _from_yaml(value: Any) -> Any:
    import yaml

    text = str(value)
    check_text(text)
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if root is not None:
        check_nodes(root)
    return yaml.safe_load(text)


def _strftime(string_format: str, second: Any = None, utc: bool = False) -> str:
    moment = time.time() if second is None else float(second)
    return time.strftime(string_format, time.gmtime(moment) if utc else time.localtime(moment))


def _ipaddr(value: Any, query: str = "") -> Any:
    """The queried part of an IPv4 or IPv6 address, with or without a prefix; False if it is not an address."""
    try:
        interface = ipaddress.ip_interface(str(value))
    except ValueError:
        return False
    network = interface.network
    is_network = "/" in str(value) and interface.ip == network.network_address and network.num_addresses > 1
    answers: dict[str, Callable[[], Any]] = {
        "": lambda: str(value),
        "address": lambda: str(interface.ip) if not is_network else None,
        "broadcast": lambda: str(network.broadcast_address),
        "cidr": lambda: str(interface),
        "net": lambda: str(network) if is_network else None,
        "netmask": lambda: str(network.netmask),
        "network": lambda: str(network.network_address),
        "network/prefix": lambda: str(network),
        "prefix": lambda: network.prefixlen,
        "size": lambda: network.num_addresses,
    }
    if query not in answers:
        raise ValueError(f"ipaddr: unknown query {query!r}; there are {', '.join(filter(None, answers))}")
    return answers[query]()


def _ternary(value: Any, true_val: Any, false_val: Any, none_val: Any = None) -> Any:
    if value is None and none_val is not None:
        return none_val
    return true_val if value else false_val


def _urlsplit(value: str, query: str = "") -> Any:
    parts = urlsplit(value)
    names = ("fragment", "hostname", "netloc", "password", "path", "port", "query", "scheme", "username")
    found = {name: getattr(parts, name) for name in names}
    if query and query not in found:
        raise ValueError(f"urlsplit: unknown URL component {query!r}; there are {', '.join(names)}")
    return found[query] if query else found


def _zip(*lists: Iterable[Any]) -> list[list[Any]]:
    return [list(row) for row in zip(*lists, strict=False)]


def _strictly(function: Callable[..., Any]) -> Callable[..., Any]:
    """The filter, made to raise on undefined values, also deep within a value."""

    @functools.wraps(function)
    def checked(*args: Any, **options: Any) -> Any:
        for value in (*args, *options.values()):
            strict(value)
        return function(*args, **options)

    return checked


def _to_datetime(value: str, format: str = "%Y-%m-%d %H:%M:%S") -> datetime.datetime:
    return datetime.datetime.strptime(value, format)


_STRICT: dict[str, Callable[..., Any]] = {
    "ansible.utils.ipaddr": _ipaddr,
    "checksum": _hash,
    "b64decode": _b64decode,
    "b64encode": _b64encode,
    "basename": posixpath.basename,
    "bool": to_bool,
    "combine": _combine,
    "dict2items": _dict2items,
    "difference": _difference,
    "dirname": posixpath.dirname,
    "flatten": _flatten,
    "from_json": json.loads,
    "from_yaml": _from_yaml,
    "hash": _hash,
    "intersect": _intersect,
    "ipaddr": _ipaddr,
    "items2dict": _items2dict,
    "path_join": lambda paths: posixpath.join(*paths) if isinstance(paths, list) else paths,
    "product": lambda first, *others: [list(row) for row in counted(itertools.product(first, *others))],
    "quote": lambda value: shlex.quote(str(value)),
    "regex_escape": lambda value: re.escape(str(value)),
    "regex_findall": _regex_findall,
    "regex_replace": _regex_replace,
    "regex_search": _regex_search,
    "split": lambda value, *separators: str(value).split(*separators),
    "splitext": lambda value: list(posixpath.splitext(value)),
    "strftime": _strftime,
    "subelements": _subelements,
    "symmetric_difference": lambda a, b: _unique([*_difference(a, b), *_difference(b, a)]),
    "ternary": _ternary,
    "to_datetime": _to_datetime,
    "to_json": _to_json,
    "to_nice_json": _to_nice_json,
    "to_nice_yaml": _to_nice_yaml,
    "to_yaml": _to_yaml,
    "union": _union,
    "unique": _unique,
    "urlsplit": _urlsplit,
    "zip": _zip,
}

FILTERS: dict[str, Callable[..., Any]] = {
    "default": _default,
    "d": _default,
    "extract": _extract,
    "mandatory": _mandatory,
    **{name: _strictly(function) for name, function in _STRICT.items()},
}


def _result(value: Any, test: str) -> MutableMapping[str, Any]:
    use(value)
    if not isinstance(value, MutableMapping):
        raise TypeError(f"the test '{test}' expects a registered result")
    return value


def _flag(name: str, test: str) -> Callable[[Any], bool]:
    def is_set(value: Any) -> bool:
        result = _result(value, test)
        # A Forecast of check mode raises for a key that it does not have.
        return bool(result[name] if name in result or isinstance(result, Forecast) else False)

    return is_set


def _matches(how: str) -> Callable[..., bool]:
    def matches(value: Any = "", pattern: str = "", ignorecase: bool = False, multiline: bool = False) -> bool:
        return regex.groups(how, pattern, _flags(ignorecase, multiline), str(use(value))) is not None

    return matches


_OPERATORS = {
    **dict.fromkeys(("==", "=", "eq"), operator.eq),
    **dict.fromkeys(("<", "lt"), operator.lt),
    **dict.fromkeys(("<=", "le"), operator.le),
    **dict.fromkeys((">", "gt"), operator.gt),
    **dict.fromkeys((">=", "ge"), operator.ge),
    **dict.fromkeys(("!=", "<>", "ne"), operator.ne),
}


def _version(value: Any, version: Any, how: str = "eq") -> bool:
    if how not in _OPERATORS:
        raise ValueError(f"version: unknown operator {how!r}; there are {', '.join(_OPERATORS)}")
    try:
        return bool(_OPERATORS[how](_loose(use(value)), _loose(use(version))))
    except TypeError:
        raise ValueError(f"version: {value!r} and {version!r} cannot be compared") from None


def _loose(version: Any) -> list[int | str]:
    """The numbers and words of a version in order, without separators; a number is not compared with a word."""
    parts = [part for part in re.split(r"(\d+|[a-z]+|\.)", str(version)) if part and part != "."]
    return [int(part) if part.isdigit() else part for part in parts]


def _is_defined(value: Any) -> bool:
    return not isinstance(_known(value), Undefined)


TESTS: dict[str, Callable[..., bool]] = {
    "file": lambda value: regular.is_file(Path(use(value))),
    "defined": _is_defined,
    "undefined": lambda value: not _is_defined(value),
    "changed": _flag("changed", "changed"),
    "failed": _flag("failed", "failed"),
    "skipped": _flag("skipped", "skipped"),
    "succeeded": lambda value: not _flag("failed", "succeeded")(value),
    "success": lambda value: not _flag("failed", "success")(value),
    "match": _matches("match"),
    "search": _matches("search"),
    "contains": lambda container, element: use(element) in use(container),
    "version": _version,
}
