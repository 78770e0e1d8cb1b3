"""Rules over n rows in three phases, and every way to run them, derived once.

measure : additive statistics of one block of columns
solve   : on the host, from the summed statistics to a small plan
emit    : one block of columns and the plan to the same columns of the answer (the engine's apply phase)

From these come the eager driver, the subtasks of the operator contract, the functions that a Dask graph
calls on column shards, and (in `byzflow.operators.lazy`) the same graph on a `dask.array`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from byzflow.kernels.blocks import Span, Tree, shards, sole_block
from byzflow.kernels.intake import as_rows
from byzflow.kernels.pages import touched
from byzflow.kernels.rows import Array, Rows
from byzflow.kernels.template import Template
from byzflow.kernels.threads import one_thread, parallel
from byzflow.operators.base import OpContext, Operator, Pool, SubTask
from byzflow.operators.inputs import wired
from byzflow.operators.shards import (
    all_finite,
    apply_blocks,
    apply_shard,
    assemble,
    joined,
    measure_blocks,
    measure_shard,
    solve_tree,
    stack_shard,
)

__all__ = ("Plan", "RowOperator", "Stats")

_ALIGNED = 64
"""Columns that are cut anywhere are cut at multiples of this, if there are enough."""

Plan = Any
Stats = Mapping[str, Any]


class RowOperator(Operator, ABC):
    """A rule over the rows of an (n, d) matrix; a subclass fills in the phases.

    Attributes
    ----------
    input_key : str
        Name of the graph input that holds the vectors.
    extra : int
        How many rows at the end of the stack are no inputs (a server's gradient, a previous centre).
    measures : bool
        Whether there is a first pass over the columns.
    optimistic : bool
        The plan is known beforehand unless a row is not finite: measure only if the answer is not finite.
    by_phases : bool
        The phases say all that the rule does; see `byzflow.operators.overriding`.
    """

    input_key: ClassVar[str] = "vectors"
    supports_subtasks: ClassVar[bool] = True
    extra: ClassVar[int] = 0
    measures: ClassVar[bool] = False
    by_phases: ClassVar[bool] = True

    @property
    def single(self) -> bool:
        """Whether the answer is one row, whatever n is."""
        return True

    @property
    def optimistic(self) -> bool:
        """Whether the first pass can be skipped as long as the answer is finite."""
        return False

    def check(self, n: int) -> None:
        """Raise `ToleranceError` if the rule cannot work on n rows."""

    def measure(self, rows: Rows, span: Span) -> Stats:
        """Return additive float64 statistics of one canonical block."""
        raise NotImplementedError(f"{type(self).__name__} sets measures but does not override measure().")

    def solve(self, stats: Stats, n: int) -> Plan:
        """Return the plan, from the statistics summed over all columns (empty if there was no first pass)."""
        return None

    def height(self, plan: Plan, n: int) -> int:
        """Return the number of rows of the answer."""
        return 1

    def in_place(self, rows: Rows, plan: Plan) -> bool:
        """Whether `emit` reads the rows where they lie, so that it takes spans wider than a block."""
        return False

    @abstractmethod
    def emit(self, rows: Rows, plan: Plan, span: Span, out: Array) -> None:
        """Write columns `span` of the answer into `out`, of shape ``(height, w)``."""

    def vectors(self, inputs: Mapping[str, Any]) -> Sequence[Array]:
        """Return the vectors among the graph inputs.

        Raises
        ------
        KeyError
            If the input is missing.
        TypeError
            If it is no sequence.
        """
        return wired(inputs, self.input_key, type(self).__name__)

    def finish(self, answer: list[Array]) -> Any:
        """Return what the caller of the operator gets for the rows of the answer: by default the only one."""
        return answer[0]

    # Drivers -----------------------------------------------------------------------------------------

    def run_rows(self, vectors: Any, extra: Sequence[Array] = ()) -> list[Array]:
        """Run eagerly on the threads that torch may use here; return the rows of the answer.

        Parameters
        ----------
        vectors : sequence of Array or stacked Array
            The n vectors.
        extra : sequence of Array
            The `extra` rows.
        """
        return self.run_planned(vectors, extra)[0]

    def run_planned(self, vectors: Any, extra: Sequence[Array] = ()) -> tuple[list[Array], Plan]:
        """Run as `run_rows` does; return the rows of the answer, and the plan that made them."""
        template, out, plan = self.run_block(vectors, extra)
        return template.restore_rows(out), plan

    def run_block(self, vectors: Any, extra: Sequence[Array] = ()) -> tuple[Template, Array, Plan]:
        """Run as `run_rows` does; return the answer in one piece, what it must look like, and the plan."""
        rows = as_rows(vectors, extra)
        n = rows.n - len(extra)
        self.check(n)
        optimistic = self.optimistic
        out, plan = self._attempt(rows, n, measured=self.measures and not optimistic)
        if optimistic and not all_finite(out):
            out, plan = self._attempt(rows, n, measured=True)
        return rows.template, out, plan

    def _attempt(self, rows: Rows, n: int, *, measured: bool) -> tuple[Array, Plan]:
        if (span := sole_block(rows.d, rows.width)) is None:
            return self._attempt_blocks(rows, n, measured=measured)
        stats: Stats = {}
        if measured:
            with one_thread():
                stats = self.measure(rows, span)  # there is nothing to sum
        plan = self.solve(stats, n)
        out = rows.like(self.height(plan, n), rows.d)
        if self.in_place(rows, plan):
            self.emit(rows, plan, span, out)  # by compiled loops: torch's threads are no concern of theirs
        else:
            with one_thread():
                self.emit(rows, plan, span, out)
        return out, plan

    def _attempt_blocks(self, rows: Rows, n: int, *, measured: bool) -> tuple[Array, Plan]:
        stats: Stats = {}
        if measured:
            trees = parallel(lambda span: measure_blocks(self, rows, span), rows.n, rows.d, rows.width)
            stats = Tree.merge(trees).root()
        plan = self.solve(stats, n)
        return self._emitted(rows, plan, n), plan

    def _emitted(self, rows: Rows, plan: Plan, n: int) -> Array:
        out = touched(rows.like(self.height(plan, n), rows.d))
        parallel(lambda span: apply_blocks(self, rows, plan, span, out), rows.n, rows.d, rows.width)
        return out

    def compute(self, inputs: Mapping[str, Any], *, context: OpContext) -> Any:
        """Run eagerly on the graph inputs."""
        if not _wants_plan(context):
            return self.finish(self.run_rows(self.vectors(inputs)))
        answer, plan = self.run_planned(self.vectors(inputs))
        _note(context, plan)
        return self.finish(answer)

    def create_subtasks(self, inputs: Mapping[str, Any], *, context: OpContext) -> Iterable[SubTask]:
        """Return one subtask for each column shard: the first pass if there is one, else the only one.

        There are as many as the pool has workers, if there are so many canonical blocks or if the answer
        has the same bits wherever its columns are cut. Where there is one block, the subtasks only read it.
        """
        rows = as_rows(self.vectors(inputs))
        self.check(rows.n)
        workers = _pool_size(context)
        if self._measures_first:
            spans = shards(rows.d, workers, rows.grid)
            if len(spans) < 2 <= workers:
                # One block, which only one task could measure: what can be shared is to read it.
                return [self._subtask(stack_shard, rows, span) for span in shards(rows.d, workers, 1)]
            return [self._subtask(measure_shard, rows, span) for span in spans]
        plan = self.solve({}, rows.n)
        return [self._subtask(apply_shard, rows, span, plan) for span in self._cut(rows, plan, workers)]

    def reduce_subtasks(
        self, partials: Sequence[Any], inputs: Mapping[str, Any], *, context: OpContext
    ) -> Any:
        """Return the answer from the subtasks' results; after a first pass, the second runs here."""
        rows = as_rows(self.vectors(inputs))
        if isinstance(partials[0], Tree):
            plan = solve_tree(self, Tree.merge(list(partials)), rows.n)
            out = self._emitted(rows, plan, rows.n)
        elif self._measures_first:
            out, plan = self._attempt(as_rows(joined(partials)), rows.n, measured=True)
        elif self.optimistic and not all(map(all_finite, partials)):
            out, plan = self._attempt(rows, rows.n, measured=True)
        else:
            out = joined(partials)
            plan = self.solve({}, rows.n) if _wants_plan(context) else None  # as `create_subtasks` did
        _note(context, plan)
        return self.finish(rows.template.restore_rows(out))

    async def run_barriered_subtasks(
        self, inputs: Mapping[str, Any], *, context: OpContext, pool: Pool
    ) -> Any:
        """Run both passes on the pool, with the solve between them here."""
        rows = as_rows(self.vectors(inputs))
        self.check(rows.n)

        async def over(fn: Any, spans: Sequence[Span], *plan: Plan) -> list[Any]:
            work = [self._subtask(fn, rows, span, *plan) for span in spans]
            return await self._run_subtasks(pool, work, self.max_subtasks_inflight, context)

        async def attempt(*, measured: bool) -> tuple[list[Array], Plan]:
            trees = await over(measure_shard, shards(rows.d, pool.size, rows.grid)) if measured else []
            plan = solve_tree(self, Tree.merge(trees), rows.n)
            return await over(apply_shard, self._cut(rows, plan, pool.size), plan), plan

        pieces, plan = await attempt(measured=self._measures_first)
        if self.optimistic and not all(map(all_finite, pieces)):
            pieces, plan = await attempt(measured=True)
        _note(context, plan)
        return self.finish(assemble(pieces, rows.template))

    @property
    def _measures_first(self) -> bool:
        return self.measures and not self.optimistic

    def _cut(self, rows: Rows, plan: Plan, workers: int) -> list[Span]:
        """Cut the columns of the answer: anywhere if no bit depends on it, since vectors may be short."""
        free = not self.measures or self.in_place(rows, plan)
        return shards(rows.d, workers, max(1, min(_ALIGNED, rows.d // workers)) if free else rows.width)

    def _subtask(self, fn: Any, rows: Rows, span: Span, *plan: Plan) -> SubTask:
        slices = [vector[span.lo : span.hi] for vector in rows.vectors]
        return SubTask(fn, (self, slices, span, rows.d, *plan), name=f"{self.name}-{fn.__name__}")


def _wants_plan(context: OpContext | None) -> bool:
    return context is not None and context.plans is not None


def _note(context: OpContext | None, plan: Plan) -> None:
    if context is not None and context.plans is not None:
        context.plans[context.node_name] = plan


def _pool_size(context: OpContext | None) -> int:
    metadata = (context.metadata if context is not None else None) or {}
    return int(metadata.get("pool_size") or 1)
