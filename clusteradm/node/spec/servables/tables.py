"""Tables of lookups, as files of CSV, JSON or text. Without NumPy, on both sides. The bytes are not trusted."""

import csv
import io
from typing import Any, Dict, Iterator, List, Optional, Tuple, Union

from clusteradm.node.spec.datatypes import TEXT
from clusteradm.node.spec.feeding import FLOATS, INTEGERS
from clusteradm.node.spec.servables.problem import Problem
from clusteradm.node.spec.wire.decode import WireError, loads
from clusteradm.node.spec.wire.servables import Lookup

MOST_BYTES = 64 << 20
MOST_ENTRIES = 1000000
_MOST_TEXT = 1 << 16  # bytes of a key or a value

Pair = Tuple[str, Any, Any]


def read(lookup: Lookup, data: bytes, key: str, value: str) -> Dict[Any, Any]:
    """The table: key -> value, in these dtypes. Of a list (a JSON list, the lines of a text) the number of an entry,
    from 0, is its value where the keys are texts, and its key where they are numbers. Raises Problem."""
    if len(data) > MOST_BYTES:
        raise Problem("%s has %d bytes, more than %d" % (lookup.table, len(data), MOST_BYTES))
    found: Dict[Any, Any] = {}
    for where, left, right in _pairs(lookup, data, key):
        place = "%s, %s" % (lookup.table, where)
        entry = scalar(left, key, place)
        if entry in found:
            raise Problem("%s: %s is there already" % (place, shown(entry)))
        if len(found) >= MOST_ENTRIES:
            raise Problem("%s has more than %d entries" % (lookup.table, MOST_ENTRIES))
        found[entry] = scalar(right, value, place)
    if not found:
        raise Problem("%s has no entry" % lookup.table)
    return found


def scalar(value: Any, dtype: str, where: str) -> Any:
    """A value of a file in a dtype: bytes, int, float or bool. Raises Problem."""
    found: Union[bytes, int, float, bool, None] = None
    if dtype == TEXT:
        if isinstance(value, str):
            found = value.encode("utf-8")
            if len(found) > _MOST_TEXT:
                raise Problem("%s: a text of %d bytes, more than %d" % (where, len(found), _MOST_TEXT))
    elif dtype == "bool":
        found = {"true": True, "1": True, "false": False, "0": False}.get(str(value).strip().lower())
    elif dtype in INTEGERS:
        whole = found = _whole(value)
        if whole is not None and not INTEGERS[dtype][0] <= whole <= INTEGERS[dtype][1]:
            raise Problem("%s: %s is out of the range of %s" % (where, shown(value), dtype))
    elif dtype in FLOATS:
        found = _real(value)
    if found is None:
        raise Problem("%s: %s is no %s" % (where, shown(value), "text" if dtype == TEXT else dtype))
    return found


def _whole(value: Any) -> Optional[int]:
    if isinstance(value, str) and len(value) < 40:
        try:
            return int(value)
        except ValueError:
            return None
    return value if type(value) is int else None


def _real(value: Any) -> Optional[float]:
    try:
        found = float(value) if type(value) in (int, float) or (isinstance(value, str) and len(value) < 100) else None
    except (ValueError, OverflowError):
        return None
    return found if found is not None and found - found == 0.0 else None


def shown(value: Any) -> str:
    """A value for a message."""
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    return ascii(text)[:60]


def _pairs(lookup: Lookup, data: bytes, key: str) -> Iterator[Pair]:
    """(place, key, value) of each entry."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Problem("%s is no text in UTF-8: byte %d" % (lookup.table, error.start)) from None
    kind = lookup.table.rpartition(".")[2]
    if kind == "csv":
        return _csv(lookup, text)
    if lookup.key is not None or lookup.value is not None:
        raise Problem("key and value name the columns of a CSV file, which %s is not" % lookup.table)
    if kind == "json":
        return _json(lookup, text, key)
    if kind == "txt":
        return _listed(text.splitlines(), key, "line %d", 1)
    raise Problem("a lookup's table is CSV, JSON or text, not %s" % lookup.table)


def _listed(entries: List[Any], key: str, where: str, first: int) -> Iterator[Pair]:
    for number, each in enumerate(entries):
        yield (where % (number + first), each, number) if key == TEXT else (where % (number + first), number, each)


def _json(lookup: Lookup, text: str, key: str) -> Iterator[Pair]:
    try:
        document = loads(text, 2 * MOST_ENTRIES)
    except WireError as error:
        raise Problem("%s: %s" % (lookup.table, error)) from None
    if isinstance(document, list):
        yield from _listed(document, key, "entry %d", 0)
    elif isinstance(document, dict):
        for name, value in document.items():
            yield "key %s" % shown(name), name, value
    else:
        raise Problem("%s is neither an object nor a list" % lookup.table)


def _csv(lookup: Lookup, text: str) -> Iterator[Pair]:
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    left, right = 0, 1
    named = lookup.key is not None or lookup.value is not None
    try:
        for row in rows:
            if not row:
                continue
            if named:
                left, right = _column(lookup, row, lookup.key, 0), _column(lookup, row, lookup.value, 1)
                named = False
                continue
            if len(row) <= max(left, right):
                raise Problem("%s, line %d: it has %d columns" % (lookup.table, rows.line_num, len(row)))
            yield "line %d" % rows.line_num, row[left], row[right]
    except csv.Error as error:
        raise Problem("%s, line %d: no CSV: %s" % (lookup.table, rows.line_num, error)) from None


def _column(lookup: Lookup, header: List[str], name: Any, usual: int) -> int:
    if name is None:
        return usual
    if header.count(name) != 1:
        columns = ", ".join(map(shown, header[:20]))
        raise Problem("%s has no column %s, but %s" % (lookup.table, shown(name), columns))
    return header.index(name)
