"""Frames between front processes and those of servables: a JSON document, and the bytes of tensors behind it."""

import json
import struct
from typing import Any, Dict, List, Mapping, Tuple

import numpy as np

from clusteradm.node.serve.servables.work import Arrays, texts

RUN, CANCEL = "run", "cancel"
# Answers: the request is at work now, and is not to be given to another process if this one ends; or how it ended.
BEGUN, DONE, INVALID, DEFECT, LATE, FULL, UNKNOWN = ("begun", "done", "invalid", "defect", "late", "full", "unknown")
HEAD = struct.Struct("<II")
MOST_DOCUMENT, MOST_BODY = 4 << 20, 160 << 20
_TEXT = "bytes"


class Damaged(ValueError):
    """What came is no frame."""


def pack(document: Dict[str, Any], arrays: Mapping[str, Any]) -> List[Any]:
    """The pieces of a frame, to be sent one after the other."""
    pieces: List[Any] = []
    about: List[Any] = []
    for name, array in arrays.items():
        if array.dtype == object:
            flat = array.ravel().tolist()
            pieces.append(b"".join(len(each).to_bytes(4, "little") + each for each in flat))
            about.append([name, _TEXT, list(array.shape), len(pieces[-1])])
        else:
            whole = np.ascontiguousarray(array)
            pieces.append(whole.reshape(-1).view(np.uint8).data)
            about.append([name, whole.dtype.name, list(array.shape), whole.nbytes])
    text = json.dumps(dict(document, tensors=about)).encode("utf-8")
    return [HEAD.pack(len(text), sum(each[3] for each in about)), text, *pieces]


def sizes(head: bytes) -> Tuple[int, int]:
    """The bytes of the document, and of the tensors, by the head of a frame. Raises Damaged."""
    document, body = HEAD.unpack(head)
    if document > MOST_DOCUMENT or body > MOST_BODY:
        raise Damaged("a frame of %d and %d bytes" % (document, body))
    return int(document), int(body)


def unpack(text: bytes, body: Any) -> Tuple[Dict[str, Any], Arrays]:
    """The document and the tensors, which are parts of `body`. Raises Damaged."""
    try:
        document = json.loads(text.decode("utf-8"))
        found: Arrays = {}
        at = 0
        for name, dtype, shape, size in document.pop("tensors"):
            part = memoryview(body)[at : at + size]
            at += size
            if dtype == _TEXT:
                found[name] = texts(_split(part), shape)
            else:
                found[name] = np.frombuffer(part, dtype).reshape(shape) if size else np.empty(shape, dtype)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise Damaged("no frame: %s" % error) from None
    return document, found


def _split(part: Any) -> List[bytes]:
    found, at = [], 0
    while at < len(part):
        length = int.from_bytes(part[at : at + 4], "little")
        found.append(bytes(part[at + 4 : at + 4 + length]))
        at += 4 + length
    return found
