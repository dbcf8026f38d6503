"""Sets of inputs by their numbers, in a byte each: rank 0 and the supervisor have those of millions, on a head that may
have 1 GB, where a Python set takes seventy."""

import itertools
from collections import deque
from typing import AbstractSet, Deque, Dict, Iterable, Iterator, List, MutableSet, Optional

_BITS = 16
_PAGE = 1 << _BITS
_REST = _PAGE - 1


class Numbers(MutableSet[int]):
    """A set of whole numbers from 0 on, most of them neighbours. In order."""

    def __init__(self, numbers: Iterable[int] = ()) -> None:
        self._pages: Dict[int, bytearray] = {}
        self._counts: Dict[int, int] = {}
        self._size = 0
        for number in numbers:
            self.add(number)

    def __contains__(self, number: object) -> bool:
        if type(number) is not int:
            return False
        page = self._pages.get(number >> _BITS)
        return page is not None and page[number & _REST] == 1

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[int]:
        return self.after(-1)

    def after(self, number: int) -> Iterator[int]:
        """Those that are larger, in order; the set may become smaller meanwhile."""
        for key in sorted(self._pages):
            found = max(-1, number - key * _PAGE)
            while found < _PAGE:
                page = self._pages.get(key)
                found = page.find(1, found + 1) if page is not None else -1
                if found < 0:
                    break
                yield key * _PAGE + found

    def add(self, number: int) -> None:
        """Add a number, from 0 on."""
        if number in self:
            return
        key = number >> _BITS
        if key not in self._pages:
            self._pages[key], self._counts[key] = bytearray(_PAGE), 0
        self._pages[key][number & _REST] = 1
        self._counts[key] += 1
        self._size += 1

    def discard(self, number: int) -> None:
        """Remove a number, if it is there."""
        key, at = number >> _BITS, number & _REST
        page = self._pages.get(key)
        if page is None or not page[at]:
            return
        page[at] = 0
        self._size -= 1
        left = self._counts[key] = self._counts[key] - 1
        if not left:
            del self._counts[key], self._pages[key]


class Pending:
    """Inputs that wait for a rank: first those that came back, then the others in order, then those put at the end."""

    def __init__(self, numbers: Iterable[int], last: AbstractSet[int]) -> None:
        """`last`: of these, those that are put at the end."""
        self._there = Numbers(numbers)
        self._front: Deque[int] = deque()
        self._back: Deque[int] = deque(number for number in sorted(last) if number in self._there)
        # Those in between, which only ever become fewer: what is taken and comes back is put at an end.
        self._behind = set(self._back)
        self._between = (number for number in self._there.after(-1) if number not in self._behind)
        self._next: Optional[int] = next(self._between, None)

    def __len__(self) -> int:
        return len(self._there)

    def __contains__(self, number: int) -> bool:
        return number in self._there

    @property
    def first(self) -> Optional[int]:
        """The next; None where there is none."""
        if self._front:
            return self._front[0]
        return self._next if self._next is not None else self._back[0] if self._back else None

    def take_between(self, most: int) -> List[int]:
        """Take up to so many of the others in order, where none comes before."""
        if self._front or self._next is None:
            return []
        taken = [self._next, *itertools.islice(self._between, most - 1)]
        self._next = next(self._between, None)
        for number in taken:
            self._there.discard(number)
        return taken

    def take(self) -> int:
        """Take the next. Raises IndexError where there is none."""
        if self._front:
            number = self._front.popleft()
        elif self._next is not None:
            number, self._next = self._next, next(self._between, None)
        else:
            number = self._back.popleft()
            self._behind.discard(number)
        self._there.discard(number)
        return number

    def put_first(self, number: int) -> None:
        """Have one that is not there be the next."""
        self._there.add(number)
        self._front.appendleft(number)

    def put_last(self, numbers: Iterable[int]) -> None:
        """Add numbers that are not there."""
        for number in numbers:
            self._there.add(number)
            self._back.append(number)
            self._behind.add(number)

    def drop(self, numbers: AbstractSet[int]) -> None:
        """Remove those of the numbers that came back, or were put at the end."""
        for ends in (self._front, self._back):
            for number in [number for number in ends if number in numbers]:
                ends.remove(number)
                self._there.discard(number)
