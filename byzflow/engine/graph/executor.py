"""Run one operator, without building a graph by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from byzflow.aggregators.base import Aggregator
from byzflow.engine.graph.graph import ComputationGraph, GraphNode, graph_input
from byzflow.engine.graph.pool import ActorPool, ActorPoolConfig
from byzflow.engine.graph.scheduler import NodeScheduler
from byzflow.operators.base import Operator
from byzflow.operators.checks import several
from byzflow.pre_aggregators.base import PreAggregator

__all__ = ("OperatorExecutor", "run_operator")

PoolConfig = ActorPoolConfig | Sequence[ActorPoolConfig]


class OperatorExecutor:
    """Run one operator many times, on a pool that lives as long as the context.

    Parameters
    ----------
    operator : Operator
        What to run.
    input_keys : sequence of str, optional
        Names of the inputs. Aggregators and pre-aggregators know theirs; a single other name is handed to
        them under theirs.
    pool_config : ActorPoolConfig or sequence of them, optional
        Workers to run on; started on entering the context, or for a single call outside of it.
    node_name : str, optional
        What the operator is called in its context; default: its name.

    Raises
    ------
    TypeError
        If `operator` is no Operator.
    ValueError
        If `input_keys` is not given and the operator does not know its own.

    Examples
    --------
    >>> import asyncio, numpy as np
    >>> from byzflow.aggregators.coordinate_wise import CoordinateWiseMedian
    >>> async def medians():
    ...     async with OperatorExecutor(CoordinateWiseMedian()) as executor:
    ...         return [await executor.run({"gradients": [np.full(1, x)] * 3}) for x in (1.0, 2.0)]
    >>> asyncio.run(medians())
    [array([1.]), array([2.])]
    """

    def __init__(
        self,
        operator: Operator,
        *,
        input_keys: Sequence[str] | None = None,
        pool_config: PoolConfig | None = None,
        node_name: str | None = None,
    ) -> None:
        if not isinstance(operator, Operator):
            raise TypeError(
                f"operator must be an Operator instance; got {type(operator).__name__}. "
                f"Wrap a function in CallableOp."
            )
        self.operator = operator
        self.input_keys = (
            _detect_input_keys(operator) if input_keys is None else several("input_keys", input_keys)
        )
        self.pool_config = pool_config
        self.node_name = node_name or operator.name
        self._pool: ActorPool | None = None
        self._pool_managed = False
        self._users = 0
        self._graph = self._build()

    async def run(self, inputs: Mapping[str, Any]) -> Any:
        """Return the operator's value for the named inputs.

        Raises
        ------
        ValueError
            If an input is missing.
        """
        if self.pool_config is None or self._pool is not None:
            return await self._run(inputs, self._pool)
        async with self._workers() as pool:  # of this call only: others may be under way
            return await self._run(inputs, pool)

    async def __aenter__(self) -> Self:
        """Start the pool, if one is configured; all who are inside at the same time share it."""
        self._users += 1
        if self.pool_config is not None and self._pool is None:
            self._pool, self._pool_managed = self._workers(), True
        try:
            if self._pool is not None:
                await self._pool.start()
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Shut the pool down, as the last one."""
        self._users -= 1
        if self._users:
            return
        pool, self._pool, self._pool_managed = self._pool, None, False
        if pool is not None:
            await pool.shutdown()

    def _workers(self) -> ActorPool:
        assert self.pool_config is not None
        return ActorPool(self.pool_config)

    async def _run(self, inputs: Mapping[str, Any], pool: ActorPool | None) -> Any:
        values = await NodeScheduler(self._graph, pool=pool).run(inputs)
        return values[self.node_name]

    def _build(self) -> ComputationGraph:
        own = (self.operator.input_key,) if isinstance(self.operator, Aggregator | PreAggregator) else ()
        arguments = own if len(self.input_keys) == 1 and own else self.input_keys
        wiring = {
            argument: graph_input(key) for argument, key in zip(arguments, self.input_keys, strict=True)
        }
        return ComputationGraph([GraphNode(self.node_name, self.operator, wiring)])


async def run_operator(
    operator: Operator,
    inputs: Mapping[str, Any],
    *,
    pool_config: PoolConfig | None = None,
    input_keys: Sequence[str] | None = None,
) -> Any:
    """Run one operator once.

    Parameters
    ----------
    operator : Operator
        What to run.
    inputs : mapping of str to Any
        Its inputs by name.
    pool_config : ActorPoolConfig or sequence of them, optional
        Workers to start for this call.
    input_keys : sequence of str, optional
        Names of the inputs, where the operator does not know them.

    Returns
    -------
    Any
        The operator's value.

    Examples
    --------
    >>> import asyncio, numpy as np
    >>> from byzflow.aggregators.coordinate_wise import CoordinateWiseMedian
    >>> rows = [np.array([1.0]), np.array([2.0]), np.array([9.0])]
    >>> asyncio.run(run_operator(CoordinateWiseMedian(), {"gradients": rows}))
    array([2.])
    """
    executor = OperatorExecutor(operator, input_keys=input_keys, pool_config=pool_config)
    return await executor.run(inputs)


def _detect_input_keys(operator: Operator) -> tuple[str, ...]:
    if isinstance(operator, Aggregator | PreAggregator):
        return (operator.input_key,)
    raise ValueError(
        f"Cannot auto-detect input keys of {type(operator).__name__}; only aggregators and pre-aggregators "
        f"know theirs. Pass input_keys=[...]."
    )
