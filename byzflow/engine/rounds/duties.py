"""What a node's class must have, and what it may declare; nothing of it is called."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from typing import Any

__all__ = ("declares", "distinct", "lacks", "made", "missing", "require")


def made(nodes: Iterable[Any]) -> None:
    """Refuse a class in the place of a node, and one that somebody still has to wait for.

    Examples
    --------
    >>> made([object(), dict])
    Traceback (most recent call last):
        ...
    TypeError: A node must be an object; got the class dict. Make one, dict(...), or spawn one.
    """
    for node in nodes:
        if inspect.isclass(node):
            raise TypeError(
                f"A node must be an object; got the class {node.__name__}. "
                f"Make one, {node.__name__}(...), or spawn one."
            )
        if inspect.isawaitable(node):
            if inspect.iscoroutine(node):
                node.close()
            raise TypeError(
                f"A node must be an object; got a {type(node).__name__}. "
                "Await what spawns it: `await HonestNodeActor.spawn(...)`."
            )


def distinct(honest: Sequence[Any], byzantine: Sequence[Any]) -> None:
    """Refuse a node that is given twice: it would step twice in a round, and count twice.

    Examples
    --------
    >>> distinct([{}, {}], [])
    >>> distinct([node := {}], [node])
    Traceback (most recent call last):
        ...
    ValueError: Every node must be given once; byzantine_nodes[0] is honest_nodes[0] too. Make one for each.
    """
    seen: dict[int, str] = {}
    for kind, nodes in (("honest_nodes", honest), ("byzantine_nodes", byzantine)):
        for position, node in enumerate(nodes):
            place = f"{kind}[{position}]"
            if (other := seen.setdefault(id(node), place)) != place:
                raise ValueError(f"Every node must be given once; {place} is {other} too. Make one for each.")


def missing(node: Any, required: Sequence[Sequence[str]]) -> str | None:
    """Return a name that a node or class must have and has not; each entry lists names of which one will do.

    Examples
    --------
    >>> missing(dict, [("keys",), ("fly", "walk")])
    'fly'
    """
    for names in required:
        if not any(callable(getattr(node, name, None)) for name in names):
            return names[0]
    return None


def require(node: Any, required: Sequence[Sequence[str]]) -> None:
    """Refuse a node, or a class of nodes, in which one of these is `missing`.

    Examples
    --------
    >>> require({}, [("fly",)])
    Traceback (most recent call last):
        ...
    TypeError: A node needs the method 'fly'; class 'dict' has none. Define fly() in dict.
    """
    if (lacking := missing(node, required)) is not None:
        kind = node if inspect.isclass(node) else type(node)
        raise TypeError(lacks(kind.__name__, lacking))


def declares(node: Any, name: str) -> bool:
    """Whether an object has an attribute itself, or its class has; one that answers every name has not.

    Examples
    --------
    >>> class Echo:
    ...     known = 1
    ...     def __getattr__(self, name):
    ...         return name
    >>> declares(Echo(), "known"), declares(Echo(), "begin_round")
    (True, False)
    """
    nothing = object()
    return inspect.getattr_static(node, name, nothing) is not nothing


def lacks(name: str, method: str) -> str:
    """Return the text of the error for a class without a method it needs."""
    return f"A node needs the method {method!r}; class {name!r} has none. Define {method}() in {name}."
