"""Request to the node program: its name, its fields, and the type of its reply."""

from typing import Any, Generic, Type, TypeVar

R = TypeVar("R")
P = TypeVar("P")


class Request(Generic[R]):
    """A request whose one reply is an R; `do` is its name.

    Each is a dataclass without comparison and repr: to generate them costs a board more than to read the module.
    """

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
    """What a request's class stands in the brackets of its base."""
    return cls.__orig_bases__[0].__args__
