"""Operators of a model, read from the bytes of its .tflite file: their numbers in the schema's BuiltinOperator.

A rank has no other way to learn of those in the bodies of IF, WHILE and CALL_ONCE. Source: schema.fbs, version 3.
"""

import struct
from typing import Any, FrozenSet, Optional, Set

# VAR_HANDLE is a variable that lives as long as its interpreter, and that `reset_all_variables` does not reset. The
# random numbers of RANDOM_STANDARD_NORMAL, RANDOM_UNIFORM and MULTINOMIAL go on from one inference to the next.
KEEP_STATE: FrozenSet[int] = frozenset((142, 146, 148, 149))

_OPERATOR_CODES = 1  # of the Model table
_DEPRECATED_CODE, _CODE = 0, 3  # of an OperatorCode: numbers above 127 did not fit the byte of old files
_MOST = 10000


def numbers(model: bytes) -> Set[int]:
    """The numbers of its operators, each once; none where the file is damaged, which the runtime will say."""
    try:
        return _numbers(model)
    except struct.error:
        return set()


def _numbers(model: bytes) -> Set[int]:
    codes = _field(model, _at("<I", model, 0), _OPERATOR_CODES)
    if codes is None:
        return set()
    vector = codes + _at("<I", model, codes)
    found = set()
    for place in range(min(_at("<I", model, vector), _MOST)):
        entry = vector + 4 + 4 * place
        table = entry + _at("<I", model, entry)
        old, new = _field(model, table, _DEPRECATED_CODE), _field(model, table, _CODE)
        found.add(max(_at("<b", model, old) if old else 0, _at("<i", model, new) if new else 0))
    return found


def _field(model: bytes, table: int, slot: int) -> Optional[int]:
    """The place of a field of a table; None where the table has its default."""
    vtable = table - _at("<i", model, table)
    if 4 + 2 * slot >= _at("<H", model, vtable):
        return None
    return (table + _at("<H", model, vtable + 4 + 2 * slot)) if _at("<H", model, vtable + 4 + 2 * slot) else None


def _at(form: str, model: bytes, place: int) -> Any:
    if place < 0:  # struct would count from the end
        raise struct.error("before the beginning")
    return struct.unpack_from(form, model, place)[0]
