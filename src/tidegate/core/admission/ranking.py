"""A set that is always in order and knows the rank of each of its items.

A weight-balanced search tree, with the balance and rotations of Hirai and Yamamoto, "Balancing
weight-balanced trees" (Journal of Functional Programming 21, 2011). It needs no random numbers, and
no sequence of changes makes one of them cost more than O(log n), not even a malicious one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, Generic, Protocol, TypeVar

__all__ = ["Ranking"]


class _Ordered(Protocol):
    def __lt__(self, other: Any, /) -> bool: ...


T = TypeVar("T", bound=_Ordered)

# The only pair of whole numbers that keeps the tree balanced under every addition and removal.
_MOST_UNEVEN: Final = 3
_SINGLE_BELOW: Final = 2


class _Node(Generic[T]):
    """One item with what is before and after it; `weight` is one more than the items here."""

    __slots__ = ("item", "left", "right", "weight")

    item: T
    left: _Node[T]
    right: _Node[T]
    weight: int


# Stands for "no node" everywhere, so that every node has two children to ask for their weight.
_NONE: Final[_Node[Any]] = _Node()
_NONE.weight = 1


class Ranking(Generic[T]):
    """Distinct items in the order of `<`. Not safe from several threads."""

    __slots__ = ("_root",)

    def __init__(self) -> None:
        self._root: _Node[T] = _NONE

    def add(self, item: T) -> None:
        """Put in an item that is not in. O(log n)."""
        self._root = _with(self._root, item)

    def remove(self, item: T) -> None:
        """Take out an item. O(log n).

        Raises:
            KeyError: the item is not in.
        """
        self._root = _without(self._root, item)

    def rank(self, item: Any) -> int:
        """How many items come before this one, which need not be in itself. O(log n)."""
        before = 0
        node = self._root
        while node is not _NONE:
            if node.item < item:
                before += node.left.weight
                node = node.right
            else:
                node = node.left
        return before

    def first(self) -> T | None:
        """The item that is before all others, or None when there are none. O(log n)."""
        node = self._root
        if node is _NONE:
            return None
        while node.left is not _NONE:
            node = node.left
        return node.item

    def __iter__(self) -> Iterator[T]:
        """Yield the items in order. Add and remove nothing until the end."""
        above: list[_Node[T]] = []
        node = self._root
        while above or node is not _NONE:
            while node is not _NONE:
                above.append(node)
                node = node.left
            node = above.pop()
            yield node.item
            node = node.right

    def __len__(self) -> int:
        return self._root.weight - 1


def _with(node: _Node[T], item: T) -> _Node[T]:
    if node is _NONE:
        node = _Node()
        node.item = item
        node.left = node.right = _NONE
        node.weight = 2
        return node
    if item < node.item:
        node.left = _with(node.left, item)
    else:
        node.right = _with(node.right, item)
    return _balanced(node)


def _without(node: _Node[T], item: T) -> _Node[T]:
    if node is _NONE:
        raise KeyError(item)
    if item < node.item:
        node.left = _without(node.left, item)
    elif node.item < item:
        node.right = _without(node.right, item)
    elif node.left is _NONE:
        return node.right
    elif node.right is _NONE:
        return node.left
    else:
        heir = node.right
        while heir.left is not _NONE:
            heir = heir.left
        node.item = heir.item
        node.right = _without_first(node.right)
    return _balanced(node)


def _without_first(node: _Node[T]) -> _Node[T]:
    if node.left is _NONE:
        return node.right
    node.left = _without_first(node.left)
    return _balanced(node)


def _balanced(node: _Node[T]) -> _Node[T]:
    """The root of the tree at this node, of which one side just gained or lost one item."""
    left, right = node.left, node.right
    if right.weight > _MOST_UNEVEN * left.weight:
        if right.left.weight >= _SINGLE_BELOW * right.right.weight:
            node.right = _left_up(right)
        return _right_up(node)
    if left.weight > _MOST_UNEVEN * right.weight:
        if left.right.weight >= _SINGLE_BELOW * left.left.weight:
            node.left = _right_up(left)
        return _left_up(node)
    node.weight = left.weight + right.weight
    return node


def _right_up(node: _Node[T]) -> _Node[T]:
    up = node.right
    node.right = up.left
    up.left = node
    node.weight = node.left.weight + node.right.weight
    up.weight = node.weight + up.right.weight
    return up


def _left_up(node: _Node[T]) -> _Node[T]:
    up = node.left
    node.left = up.right
    up.right = node
    node.weight = node.left.weight + node.right.weight
    up.weight = up.left.weight + node.weight
    return up
