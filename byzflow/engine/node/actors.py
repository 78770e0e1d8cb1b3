"""Handles of nodes that live on a backend: spawned by class, called like async objects."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from byzflow.engine.actor.backends.dask import DaskActorBackend
from byzflow.engine.actor.base import ActorRef
from byzflow.engine.actor.factory import check_backend, resolve_backend
from byzflow.engine.actor.hostref import HostRef
from byzflow.engine.rounds.attributes import State
from byzflow.engine.rounds.making import build
from byzflow.engine.rounds.moving import Move
from byzflow.engine.rounds.seats import is_remote
from byzflow.operators.checks import mapping, several

__all__ = ("ByzantineNodeActor", "HonestNodeActor", "NodeActor", "Recipe")


@dataclass(frozen=True)
class Recipe:
    """How to make a node: a class or any factory, and what to call it with.

    Examples
    --------
    >>> Recipe(dict, kwargs={"a": 1}).factory
    <class 'dict'>
    """

    factory: Callable[..., Any]
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not callable(self.factory):
            raise TypeError(
                f"A node is made by its class or by a factory; got a {type(self.factory).__name__}. Pass the "
                "class, and what makes the node as args."
            )
        object.__setattr__(self, "args", several("args", self.args))
        object.__setattr__(self, "kwargs", mapping("kwargs", self.kwargs))


class NodeActor:
    """A node on a backend; each attribute is an async method of the node.

    Setting an attribute stays local to the handle. ``async with`` closes the node at its end.
    """

    def __init__(self, ref: ActorRef, recipe: Recipe) -> None:
        self._ref = ref
        self._recipe = recipe

    @classmethod
    async def spawn(
        cls,
        node_cls: Callable[..., Any],
        *,
        backend: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Self:
        """Make a node on a backend.

        Parameters
        ----------
        node_cls : class or factory
            Called with `args` and `kwargs` where the node is to live.
        backend : str, Client, Cluster or ActorBackend
            What `resolve_backend` takes. Nodes on the same backend string share one cluster.

        Raises
        ------
        ValueError
            If the backend string is none.
        TypeError
            If the backend is something else.
        """
        recipe = Recipe(node_cls, several("args", args), mapping("kwargs", kwargs))
        place = resolve_backend(backend)
        check_backend(place)
        await place.start()
        try:
            await place.construct(build, args=(node_cls, recipe.args, recipe.kwargs), kwargs={})
        except BaseException:
            await place.close()
            raise
        return cls(ActorRef(place), recipe)

    @classmethod
    async def spawn_many(cls, recipes: Sequence[Recipe], *, backend: Any) -> list[Self]:
        """Make many nodes at the same time; if one fails, none is left.

        Parameters
        ----------
        recipes : sequence of Recipe
            One for each node.
        backend : str, Client or Cluster
            Shared by all.
        """
        place = resolve_backend(backend)
        if not isinstance(place, DaskActorBackend):
            raise TypeError(
                f"Many nodes need a backend that holds many objects; got a {type(place).__name__}. "
                "Pass 'thread', 'process', an address, a Client or a Cluster, or spawn them one by one."
            )
        recipes = several("recipes", recipes)
        for recipe in recipes:
            if not isinstance(recipe, Recipe):
                raise TypeError(
                    f"Each of recipes must be a Recipe; got {type(recipe).__name__}. Pass Recipe(cls, args)."
                )
        builds: list[Any] = [(build, (r.factory, r.args, r.kwargs), {}) for r in recipes]
        try:
            backends = await place.construct_many(builds)
        finally:
            await place.close()
        return [cls(ActorRef(made), recipe) for made, recipe in zip(backends, recipes, strict=True)]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Forget the node and release its backend; again is the same as once."""
        await self._ref._backend.close()

    @staticmethod
    async def close_many(nodes: Sequence[Any]) -> None:
        """Close those nodes that are handles, an `ActorRef` among them, with one rpc for each host."""
        refs = [node._ref if isinstance(node, NodeActor) else node for node in nodes]
        places = [ref._backend if isinstance(ref, ActorRef) else ref for ref in refs if _has_place(ref)]
        await DaskActorBackend.close_many([place for place in places if isinstance(place, DaskActorBackend)])
        await asyncio.gather(*(p.close() for p in places if not isinstance(p, DaskActorBackend)))

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_"):
            raise AttributeError(name)
        method: Callable[..., Any] = getattr(self._ref, name)
        return method

    def _place(self) -> tuple[HostRef, str] | None:
        """Return host and object id of a node on a Dask backend."""
        host = getattr(self._ref._backend, "host", None)
        return (host, self._ref._backend.object_id) if isinstance(host, HostRef) else None  # type: ignore[attr-defined]  # a backend with a host has an id

    @property
    def _kind(self) -> Callable[..., Any]:
        """The class or factory of the node."""
        return self._recipe.factory

    def _touch(self) -> bool:
        """Note that the node is called from now on; return whether it never was."""
        backend: Any = self._ref._backend
        was_untouched, backend.is_untouched = backend.is_untouched, False
        return bool(was_untouched)

    def _move(self, state: State | None, patience: float) -> Move:
        """Begin to make the node anew on a live worker of its runtime, as it was first made."""
        backend: Any = self._ref._backend
        recipe = (self._recipe.factory, self._recipe.args, self._recipe.kwargs)
        return Move(backend, recipe, state, patience)


def _has_place(ref: Any) -> bool:
    return isinstance(ref, ActorRef) or is_remote(ref)


class HonestNodeActor(NodeActor):
    """A handle of an honest node.

    Examples
    --------
    >>> import asyncio
    >>> class Constant:
    ...     def honest_gradient_for_next_batch(self):
    ...         return [1.0]
    ...     def apply_server_gradient(self, vec):
    ...         pass
    >>> async def example():
    ...     node = await HonestNodeActor.spawn(Constant, backend="thread")
    ...     answer = await node.honest_gradient_for_next_batch()
    ...     await node.close()
    ...     return answer
    >>> asyncio.run(example())
    [1.0]
    """


class ByzantineNodeActor(NodeActor):
    """A handle of a Byzantine node.

    Examples
    --------
    >>> import asyncio
    >>> class Liar:
    ...     def byzantine_gradient_for_next_batch(self, honest_gradients):
    ...         return [-1.0]
    >>> async def example():
    ...     async with await ByzantineNodeActor.spawn(Liar, backend="thread") as node:
    ...         return await node.byzantine_gradient_for_next_batch([])
    >>> asyncio.run(example())
    [-1.0]
    """

    @classmethod
    async def spawn(
        cls,
        node_cls: Callable[..., Any],
        *,
        backend: Any = "process",
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Self:
        """Make a Byzantine node, by default in a worker process; see `NodeActor.spawn`."""
        return await super().spawn(node_cls, backend=backend, args=args, kwargs=kwargs)
