"""Decoder of JSON values into dataclasses, directed by the types of their fields.

A value either fits its type exactly or raises WireError, which says where: "status.attempts[2].ranks: expected a list,
not text". Types: bool, int, float, str, Any, Optional, List, Tuple[X, ...], Dict[str, X] and other dataclasses. A key
that the dataclass has no field for is passed over; a field without a default must be there.

Encoding needs no code of its own: a dataclass's instance dictionary is its JSON object, hence
json.dumps(..., default=vars).
"""

import dataclasses
import functools
import json
import math
import re
import sys
import typing
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Pattern, Sequence, Type, TypeVar, Union

MOST_TEXT = 1 << 16  # characters of a text, unless its field says otherwise
MOST_ITEMS = 100_000  # of a list or an object
MOST_DEPTH = 64  # of lists and objects within each other, where any value is allowed
MOST_VALUES = 500_000  # of a document; each takes some 60 bytes or more
_LARGEST = 1 << 63
_WIDEST = 1 << 64  # where any value is allowed: the kernel counts inodes in 64 bits, without a sign

T = TypeVar("T")
Reader = Callable[[Any], Any]


class Record:
    """Base of the dataclasses that cross, with equality and repr of all their fields. None is changed once it is sent.

    They are dataclasses without methods of their own: to generate those took most of the time of an import, which a
    board pays at every start.
    """

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and vars(other) == vars(self)

    def __repr__(self) -> str:
        return "%s(%s)" % (type(self).__name__, ", ".join("%s=%r" % item for item in vars(self).items()))


class WireError(ValueError):
    """A value that does not fit its type."""

    def __init__(self, what: str, path: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.path = path

    def within(self, part: str) -> "WireError":
        """The same error, seen from one level further out; `part`: ".name" or "[number]"."""
        return WireError(self.what, part + self.path)

    def __str__(self) -> str:
        path = self.path.lstrip(".")
        return "%s: %s" % (path, self.what) if path else self.what


class Text(NamedTuple):
    """Limits of the texts in a field: the whole text matches `pattern`, or is one of `choices`."""

    most: int = MOST_TEXT
    pattern: Optional[Pattern[str]] = None
    choices: Sequence[str] = ()


_ANY_TEXT = Text()


def limits(pattern: str = "", *, choices: Sequence[str] = (), most: int = MOST_TEXT) -> Dict[str, Text]:
    """The metadata of a dataclass field whose texts have these limits; in a list or an object, each of its texts."""
    return {"text": Text(most, re.compile(pattern) if pattern else None, tuple(choices))}


def decode(kind: Type[T], value: Any) -> T:
    """`value`, as json.loads returns it, as an instance of the dataclass `kind`. Raises WireError."""
    whole: Any = kind
    decoded: T = _reader(whole, _ANY_TEXT)(value)
    return decoded


def loads(data: Union[str, bytes], most_values: int = MOST_VALUES) -> Any:
    """A JSON document as plain values, finite numbers all; of a key that occurs twice the last value counts.

    Raises WireError for what is none: not UTF-8, nested too deeply, too long a number, NaN, half a character, more than
    `most_values`.
    """
    try:
        text = data.decode("utf-8") if isinstance(data, bytes) else data
        # Each value but the first stands behind one of these; only a large document can have so many.
        if len(text) > most_values and _marks(text) > most_values and _marks(_STRINGS.sub("", text)) > most_values:
            raise WireError("more than %d values" % most_values)
        value = _DECODER.decode(text)
        if ("\\u" in text and _HALF.search(text)) or not (isinstance(data, bytes) or text.isascii()):
            json.dumps(value, ensure_ascii=False).encode("utf-8")
        return value
    except WireError:
        raise
    except UnicodeEncodeError:
        raise WireError("a text with half a character, which UTF-8 cannot hold") from None
    except (ValueError, RecursionError) as error:
        raise WireError("not a JSON document: %s" % error) from None


def _marks(text: str) -> int:
    return sum(map(text.count, ",[{"))


_STRINGS = re.compile(r'"(?:[^"\\]|\\.)*"')


def _no_number(name: str) -> Any:
    raise WireError("not a JSON document: %s is no number of JSON" % name)


def _short_integer(digits: str) -> int:
    if len(digits) > _MOST_DIGITS:
        raise WireError("not a JSON document: a number of %d digits" % len(digits))
    return int(digits)


# An escape of half a character; two of them may make a whole one.
_HALF = re.compile(r"\\u[dD][89a-fA-F]")
# Python since 3.10.7 refuses such numbers itself, and faster; before, they take time that grows with their square.
_MOST_DIGITS = 4300
_DECODER = json.JSONDecoder(
    parse_constant=_no_number, parse_int=None if hasattr(sys, "get_int_max_str_digits") else _short_integer
)


@functools.lru_cache(maxsize=None)
def _reader(kind: Any, limits: Text) -> Reader:
    if kind is Any:
        return anything
    if kind is str:
        return functools.partial(_text, limits)
    if kind in _SCALARS:
        return _SCALARS[kind]
    if dataclasses.is_dataclass(kind):
        return _object(kind)
    origin: Any = getattr(kind, "__origin__", None)
    arguments: Any = getattr(kind, "__args__", ())
    if origin is Union and len(arguments) == 2 and arguments[1] is type(None):
        return functools.partial(_optional, _reader(arguments[0], limits))
    if origin is list:
        return functools.partial(_list, _reader(arguments[0], limits))
    if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        each = functools.partial(_list, _reader(arguments[0], limits))
        return lambda value: tuple(each(value))
    if origin is dict and arguments[0] is str:
        return functools.partial(_mapping, _reader(arguments[1], limits))
    raise TypeError("no field can have the type %r" % (kind,))


def _object(kind: Any) -> Reader:
    hints = typing.get_type_hints(kind)
    plan = [
        (
            field.name,
            _reader(hints[field.name], field.metadata.get("text", _ANY_TEXT)),
            field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING,
        )
        for field in dataclasses.fields(kind)
    ]

    def read(value: Any) -> Any:
        if type(value) is not dict:
            raise _expected("an object", value)
        found = {}
        for name, reader, required in plan:
            if name in value:
                try:
                    found[name] = reader(value[name])
                except WireError as error:
                    raise error.within("." + name) from None
            elif required:
                raise WireError("missing", "." + name)
        return kind(**found)

    return read


def _optional(reader: Reader, value: Any) -> Any:
    return None if value is None else reader(value)


def _list(reader: Reader, value: Any) -> List[Any]:
    if type(value) is not list:
        raise _expected("a list", value)
    if len(value) > MOST_ITEMS:
        raise WireError("%d entries, more than %d" % (len(value), MOST_ITEMS))
    found: List[Any] = []
    try:
        for each in value:
            found.append(reader(each))
    except WireError as error:
        raise error.within("[%d]" % len(found)) from None
    return found


def _mapping(reader: Reader, value: Any) -> Dict[str, Any]:
    if type(value) is not dict:
        raise _expected("an object", value)
    if len(value) > MOST_ITEMS:
        raise WireError("%d entries, more than %d" % (len(value), MOST_ITEMS))
    found: Dict[str, Any] = {}
    for key, each in value.items():
        try:
            found[_text(_ANY_TEXT, key)] = reader(each)
        except WireError as error:
            raise error.within("[%s]" % ascii(key)[:60]) from None
    return found


def _text(limits: Text, value: Any) -> str:
    if type(value) is not str:
        raise _expected("text", value)
    if len(value) > limits.most:
        raise WireError("a text of %d characters, more than %d" % (len(value), limits.most))
    if limits.pattern is not None and not limits.pattern.fullmatch(value):
        raise WireError("%s does not match %s" % (ascii(value)[:60], limits.pattern.pattern))
    if limits.choices and value not in limits.choices:
        raise WireError("%s is none of %s" % (ascii(value)[:60], ", ".join(limits.choices)))
    if not value.isascii():
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise WireError("a text with half a character, which UTF-8 cannot hold") from None
    return str(value)


def _integer(value: Any) -> int:
    if type(value) is not int:
        raise _expected("a whole number", value)
    if abs(value) >= _LARGEST:
        raise WireError("a whole number of more than 63 bits")
    return int(value)


def _number(value: Any) -> float:
    if type(value) not in (int, float):
        raise _expected("a number", value)
    if (type(value) is int and abs(value) >= _LARGEST) or not math.isfinite(value):
        raise WireError("a number without bounds")
    return float(value)


def _truth(value: Any) -> bool:
    if type(value) is not bool:
        raise _expected("true or false", value)
    return bool(value)


def anything(value: Any) -> Any:
    """Any value from `loads`, of bounded depth and with numbers that can be reckoned with. Raises WireError."""
    level, depth = [value], 0
    while level:
        if depth > MOST_DEPTH + 1:
            raise WireError("nested more than %d levels deep" % MOST_DEPTH)
        deeper: List[Any] = []
        for each in level:
            kind = type(each)
            if kind is str:  # first, because most are
                continue
            if kind is dict:
                deeper.extend(each.values())
            elif kind is list:
                deeper.extend(each)
            elif kind is int:
                if not -_WIDEST < each < _WIDEST:
                    raise WireError("a whole number of more than 64 bits")
            elif kind is float and each - each != 0.0:
                raise WireError("a number without bounds")
        level, depth = deeper, depth + 1
    return value


_SCALARS: Dict[Any, Reader] = {int: _integer, float: _number, bool: _truth}
_KINDS = {dict: "an object", list: "a list", str: "text", bool: "true or false", int: "a number", float: "a number"}


def _expected(what: str, value: Any) -> WireError:
    return WireError("expected %s, not %s" % (what, _KINDS.get(type(value), "null")))
