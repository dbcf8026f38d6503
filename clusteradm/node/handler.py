"""Handlers of requests: what a request decodes into, and how its reply is sent."""

import functools
import types
from typing import Any, Callable, Dict, Type, TypeVar

from clusteradm.node.spec.wire.decode import decode

Q = TypeVar("Q")
Reply = Callable[[Dict[str, Any]], None]


def handles(kind: Type[Q]) -> Callable[[Callable[[Q], Any]], Callable[[Dict[str, Any], Reply], Dict[str, Any]]]:
    """Make of a function from a request of this type to its reply a handler as session.py calls it.

    A generator function yields the replies before the last, and returns that.
    """

    def decorate(function: Callable[[Q], Any]) -> Callable[[Dict[str, Any], Reply], Dict[str, Any]]:
        @functools.wraps(function)
        def handle(request: Dict[str, Any], reply: Reply) -> Dict[str, Any]:
            answer = function(decode(kind, request))
            if isinstance(answer, types.GeneratorType):
                answer = _drain(answer, reply)
            return dict(vars(answer))

        return handle

    return decorate


def _drain(parts: Any, reply: Reply) -> Any:
    while True:
        try:
            reply(vars(next(parts)))
        except StopIteration as end:
            return end.value
