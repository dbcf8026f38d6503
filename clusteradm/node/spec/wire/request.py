"""Request to the node program: its name, its fields, and the type of its reply."""

from typing import Any, Generic, Type, TypeVar

from clusteradm.node.spec.wire.decode import Record

R = TypeVar("R")
P = TypeVar("P")


class Request(Record, Generic[R]):
    """A request whose one reply is an R; each is a dataclass, and `do` its name."""

    do = ""

    @classmethod
    def reply_type(cls) -> Type[R]:
        """The R of this class."""
        kind: Any = _arguments(cls)[-1]
        return kind  # type: ignore[no-any-return]


class Streaming(Request[R], Generic[P, R]):
    """A request with any number of replies P before the last, R."""

    @classmethod
    def part_type(cls) -> Type[P]:
        """The P of this class."""
        kind: Any = _arguments(cls)[0]
        return kind  # type: ignore[no-any-return]


def _arguments(cls: Any) -> Any:
    """The types in the brackets of the class's base: [R], or [P, R]."""
    return cls.__orig_bases__[0].__args__
