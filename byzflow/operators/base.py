"""The operator contract: what the engine needs to know of a computation to place it somewhere.

Nothing here knows of vectors; operators over rows are in `byzflow.operators.rows`.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import FrozenInstanceError, dataclass, field, replace
from functools import partial
from typing import Any, ClassVar, Protocol, Self, TypeVar, cast, dataclass_transform

from byzflow.operators.together import together

__all__ = ("MessageTriggerOp", "OpContext", "Operator", "Pool", "SubTask", "frozen")

C = TypeVar("C", bound=type)

_SCRATCH = frozenset(
    {"_active_handle", "_bucket_count", "_bucket_slices", "_flat_shape", "_like", "_like_template", "_n"}
)
"""Attributes that programs written for the reference set on an operator; nothing reads them here."""


@dataclass(frozen=True)
class OpContext:
    """Where an operator runs: the graph node's name and what the scheduler wants it to know.

    If somebody wants to know the plans of rules, `plans` is where they are noted, by the name of the node.
    """

    node_name: str
    metadata: Mapping[str, Any] | None = None
    plans: dict[str, Any] | None = None


@dataclass(frozen=True)
class SubTask:
    """A function call that may run anywhere.

    Parameters
    ----------
    fn : callable
        Called as ``fn(*args, **kwargs)``.
    affinity : str, optional
        Capability that the worker must have, such as ``"gpu"`` or ``"worker::actor-0"``.
    max_retries : int
        Attempts after the first one.
    """

    fn: Callable[..., Any]
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    name: str | None = None
    affinity: str | None = None
    max_retries: int = 0

    def __post_init__(self) -> None:
        if not callable(self.fn):
            raise TypeError(
                f"fn must be callable; got {type(self.fn).__name__}. Pass the function, then its args."
            )


class Pool(Protocol):
    """What an operator may ask of a pool of workers."""

    @property
    def size(self) -> int:
        """Number of workers."""

    async def run_subtask(self, subtask: SubTask) -> Any:
        """Run one subtask and return its value."""


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def frozen(cls: C) -> C:
    """Make an operator a frozen dataclass.

    Setting one of the reference's private scratch attributes is ignored, so that programs which tidy up
    after its subtasks still run; setting anything else raises `dataclasses.FrozenInstanceError`.
    """
    made: Any = dataclass(frozen=True)(cls)

    def refuse(self: Any, name: str, value: Any) -> None:
        if name not in _SCRATCH:
            raise FrozenInstanceError(
                f"{type(self).__name__} is immutable; cannot set {name!r}. Make a new one."
            )

    made.__setattr__ = refuse
    return cast(C, made)


class Operator:
    """A computation from named inputs to one value.

    A subclass overrides `compute`; or, to be spread over a pool, `create_subtasks` and `reduce_subtasks`
    with ``supports_subtasks = True``; or, for several fan-outs, `run_barriered_subtasks` with
    ``supports_barriered_subtasks = True``.
    """

    name: ClassVar[str] = "operator"
    supports_subtasks: ClassVar[bool] = False
    supports_barriered_subtasks: ClassVar[bool] = False
    max_subtasks_inflight: ClassVar[int | None] = None
    _active_handle: ClassVar[None] = None

    def compute(self, inputs: Mapping[str, Any], *, context: OpContext) -> Any:
        """Return the value, or an awaitable of it, from the named inputs."""
        raise NotImplementedError(f"{type(self).__name__} must override compute().")

    def create_subtasks(self, inputs: Mapping[str, Any], *, context: OpContext) -> Iterable[SubTask]:
        """Return independent pieces of the work; none means that `compute` is to be called."""
        return ()

    def reduce_subtasks(
        self, partials: Sequence[Any], inputs: Mapping[str, Any], *, context: OpContext
    ) -> Any:
        """Return the value, or an awaitable of it, from the subtasks' results in their order."""
        raise RuntimeError(
            f"{type(self).__name__} ({self.name}) created subtasks but does not override reduce_subtasks()."
        )

    async def run_barriered_subtasks(
        self, inputs: Mapping[str, Any], *, context: OpContext, pool: Pool
    ) -> Any:
        """Return the value after several fan-outs through `_run_subtasks`."""
        raise RuntimeError(
            f"{type(self).__name__} ({self.name}) supports barriered subtasks but does not override "
            f"run_barriered_subtasks()."
        )

    def without(self, nodes: Collection[int]) -> Self:
        """Return this operator for the rows that are left when those of some nodes are missing.

        An operator with options that count nodes, as the index of a trusted one does, overrides it.
        """
        return self

    async def run(self, inputs: Mapping[str, Any], *, context: OpContext, pool: Pool | None) -> Any:
        """Run in place or on `pool`, as the operator supports."""
        if self.supports_barriered_subtasks and pool is not None:
            return await _settled(self.run_barriered_subtasks(inputs, context=context, pool=pool))
        if self.supports_subtasks and pool is not None and pool.size > 1:
            subtasks = list(self.create_subtasks(inputs, context=context))
            if subtasks:
                partials = await self._run_subtasks(pool, subtasks, self.max_subtasks_inflight, context)
                return await _settled(self.reduce_subtasks(partials, inputs, context=context))
        return await _settled(self.compute(inputs, context=context))

    async def _run_subtasks(
        self, pool: Pool, subtasks: Iterable[SubTask], limit: int | None, context: OpContext
    ) -> list[Any]:
        """Run subtasks through ``pool.run_subtask``, a bounded number at once; results in their order.

        `limit` None or 0 means eight for each worker, a negative -k means k for each worker. Several subtasks
        are dealt to the workers in turn; one alone goes to whoever is idle, since every node of a graph
        starts to deal at the same worker.
        """
        subtasks = list(subtasks)
        size = max(1, pool.size)
        window = asyncio.Semaphore(
            limit if limit is not None and limit > 0 else size * (-limit if limit else 8)
        )
        metadata = (context.metadata if context is not None else None) or {}
        pins = (metadata.get("worker_affinities") or ()) if len(subtasks) > 1 else ()
        shared = metadata.get("subtask_semaphore")

        async def dealt(pin: str, subtask: SubTask) -> Any:
            try:
                return await pool.run_subtask(replace(subtask, affinity=pin))
            except RuntimeError:  # as a worker's loss is; any other may do what was dealt to it
                if pin in getattr(pool, "worker_affinities", lambda: pins)():
                    raise
            return await pool.run_subtask(subtask)

        async def one(position: int, subtask: SubTask) -> Any:
            is_dealt = bool(pins) and subtask.affinity is None
            run = partial(dealt, pins[position % len(pins)]) if is_dealt else pool.run_subtask
            async with window:
                if shared is None:
                    return await run(subtask)
                async with shared:
                    return await run(subtask)

        return await together(one(i, subtask) for i, subtask in enumerate(subtasks))


class MessageTriggerOp(Operator):
    """Wait for a message of one type and return its payload.

    Parameters
    ----------
    message_type : str
        Type to wait for; not empty.
    timeout : float, optional
        Seconds to wait before `TimeoutError`; None waits as long as the scheduler does.

    Raises
    ------
    ValueError
        If `message_type` is empty.
    """

    def __init__(self, message_type: str, timeout: float | None = None) -> None:
        if not message_type:
            raise ValueError("message_type must not be empty; got ''. Name the type to wait for.")
        self.message_type = message_type
        self.timeout = timeout
        self.name = f"message_trigger_{message_type}"  # type: ignore[misc]  # one name for each instance

    async def run(self, inputs: Mapping[str, Any], *, context: OpContext, pool: Pool | None) -> Any:
        """Wait on the scheduler that the context names."""
        scheduler = (context.metadata or {}).get("scheduler")
        if scheduler is None:
            raise RuntimeError(
                f"MessageTriggerOp({self.message_type!r}) requires scheduler in the context's metadata; got "
                f"none. Run the graph with MessageAwareNodeScheduler."
            )
        return await scheduler.wait_for_message(self.message_type, timeout=self.timeout)


async def _settled(value: Any | Awaitable[Any]) -> Any:
    return await value if inspect.isawaitable(value) else value
