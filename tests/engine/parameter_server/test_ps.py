"""Parameter-server rounds: every rule, every home of a node, every way to fail."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import torch
from distributed import Client, LocalCluster
from distributed.diagnostics.plugin import SchedulerPlugin

from byzflow.aggregators.base import Aggregator, StatefulAggregator
from byzflow.aggregators.coordinate_wise import CoordinateWiseMedian, CoordinateWiseTrimmedMean
from byzflow.aggregators.geometric_wise import MultiKrum
from byzflow.aggregators.norm_wise import CenteredClipping
from byzflow.engine.checkpoint import Checkpoint
from byzflow.engine.graph.pool import ActorPool, ActorPoolConfig
from byzflow.engine.node.actors import ByzantineNodeActor, HonestNodeActor, Recipe
from byzflow.engine.node.torch import TorchByzantineNode, TorchHonestNode
from byzflow.engine.parameter_server import ParameterServer, reduction
from byzflow.engine.rounds import sites
from byzflow.engine.rounds.answers import Reason
from byzflow.exceptions import NodeLostError, ToleranceError
from byzflow.pre_aggregators.nnm import NearestNeighborMixing
from tests.cases import CASES
from tests.engine.parameter_server.nodes import AsyncHonest, Bad, Honest, Liar, row
from tests.engine.rounds.malformed import Malformed

RULES = [case for case in CASES if case.rule.startswith("aggregators.")]
PRES = [case for case in CASES if case.rule.startswith("pre_aggregators.")]
ATTACKS = [case for case in CASES if case.rule.startswith("attacks.")]
N_HONEST, N_LIARS = 7, 2
N = N_HONEST + N_LIARS


def rows(round: int = 0, d: int = 5, n: int = N_HONEST, liars: int = N_LIARS) -> list[torch.Tensor]:
    honest = [row(i, round, d) for i in range(n)]
    return honest + [-1.0 * torch.stack(honest).mean(dim=0)] * liars


def plain(n: int = N_HONEST, liars: int = N_LIARS) -> tuple[list[Any], list[Any]]:
    return [Honest(i) for i in range(n)], [Liar() for _ in range(liars)]


async def spawned(backend: str, d: int = 5) -> tuple[list[Any], list[Any]]:
    honest = await HonestNodeActor.spawn_many(
        [Recipe(Honest, (i, d)) for i in range(N_HONEST)], backend=backend
    )
    return honest, await ByzantineNodeActor.spawn_many([Recipe(Liar)] * N_LIARS, backend=backend)


@pytest.mark.parametrize("case", RULES, ids=lambda case: case.name)
async def test_the_aggregate_is_the_eager_rules_on_the_same_rows(case: Any) -> None:
    rule, state = case.make(N), None
    expected = torch.zeros(5)
    async with ParameterServer(*plain(), rule) as ps:
        for round in range(2):
            if hasattr(rule, "step"):
                want, state = rule.step(rows(round), state)
            else:
                want = rule.aggregate(rows(round))
            assert torch.equal(await ps.round(), want)
            expected -= 0.1 * want
        for node in ps.hon:
            torch.testing.assert_close(node.w, expected)


@pytest.mark.parametrize("case", PRES, ids=lambda case: case.name)
@pytest.mark.parametrize("rule", [CoordinateWiseMedian(), MultiKrum(f=1, q=1)], ids=["median", "krum"])
async def test_a_pre_aggregator_comes_first(case: Any, rule: Any) -> None:
    pre = case.make(N)
    async with ParameterServer(*plain(), rule, pre) as ps:
        expected = rule.aggregate(pre.pre_aggregate(rows()))
        torch.testing.assert_close(await ps.round(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("pooled", [False, True], ids=["alone", "pool"])
async def test_spawned_nodes_and_pools_give_the_same_bits(pooled: bool) -> None:
    pool = ActorPool([ActorPoolConfig("thread", count=2)]) if pooled else None
    honest, liars = await spawned("thread")
    for number, case in enumerate(RULES):
        ps = ParameterServer(honest, liars, rule := case.make(N), actor_pool=pool)
        ps._rounds.number = number
        assert torch.equal(await ps.round(), rule.aggregate(rows(number))), case.name
    await ps.shutdown()
    if pool is not None:
        await pool.shutdown()


@pytest.mark.processes
@pytest.mark.parametrize("large", [1, 10**9], ids=["shared", "sent"])
async def test_worker_processes_give_the_same_bits(monkeypatch: pytest.MonkeyPatch, large: int) -> None:
    monkeypatch.setattr(sites, "LARGE", large)
    monkeypatch.setattr(sites, "TIMES", 1)
    honest, liars = await spawned("process", d=3000)
    mixing = NearestNeighborMixing(f=2)
    pipelines = [(None, case.make(N)) for case in RULES if not hasattr(case.make(N), "step")]
    pipelines += [(mixing, MultiKrum(f=2, q=3)), (mixing, CoordinateWiseMedian())]
    for number, (pre, rule) in enumerate(pipelines):
        ps = ParameterServer(honest, liars, rule, pre, True)
        ps._rounds.number = number
        everything = rows(number, 3000)
        want = rule.aggregate(everything if pre is None else pre.pre_aggregate(everything))
        got = await ps.round()
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)
        assert pre is not None or torch.equal(got, want), type(rule).__name__
        assert ps.history[0].excluded == ()
        assert ps.history[0].bytes_moved > 0
        await ps._rounds.close()
    weights = [await node.weights() for node in honest]
    assert all(torch.equal(w, weights[0]) for w in weights)
    await ps.shutdown()


@pytest.mark.parametrize("update", [False, True])
async def test_byzantine_nodes_change_nothing_that_others_hold(update: bool) -> None:
    honest, liars = plain()
    async with ParameterServer(honest, liars, CoordinateWiseMedian(), None, update) as ps:
        aggregate = await ps.round()
        assert bool(torch.isfinite(aggregate).all())
        assert all(bool(torch.isfinite(node.w).all()) for node in honest)
    assert [liar.updates for liar in liars] == [int(update)] * 2
    assert [liar.shown for liar in liars] == [N_HONEST] * 2


async def test_async_nodes_and_no_byzantine_nodes() -> None:
    async with ParameterServer([AsyncHonest(i) for i in range(3)], None, CoordinateWiseMedian()) as ps:
        assert torch.equal(await ps.round(), CoordinateWiseMedian().aggregate(rows(n=3, liars=0)))


async def test_sync_rounds_work_inside_a_running_loop() -> None:
    ps = ParameterServer(*plain(), CoordinateWiseMedian())
    assert torch.equal(ps.round_sync(), CoordinateWiseMedian().aggregate(rows()))
    assert torch.equal(await ps.round(), CoordinateWiseMedian().aggregate(rows(1)))
    await ps.shutdown()


def test_sync_rounds_work_without_a_loop() -> None:
    ps = ParameterServer(*plain(), CoordinateWiseMedian())
    for round in range(3):
        assert torch.equal(ps.round_sync(), CoordinateWiseMedian().aggregate(rows(round)))


@pytest.mark.parametrize(
    ("how", "reason", "detail"),
    [
        ("raises", Reason.RAISED, "disk full"),
        ("times out", Reason.RAISED, "TimeoutError"),
        ("shape", Reason.SHAPE, "expected"),
        ("dtype", Reason.DTYPE, "expected"),
        ("type", Reason.TYPE, "expected"),
        ("non-finite", Reason.NONFINITE, "NaN"),
        ("hangs", Reason.DEADLINE, "honest_gradient_for_next_batch() had to end within 1.0 s"),
    ],
)
async def test_a_failing_node_is_excluded_and_the_round_goes_on(
    how: str, reason: Reason, detail: str
) -> None:
    honest = [Bad(0, how), *(Honest(i) for i in range(1, 5))]
    async with ParameterServer(honest, [], CoordinateWiseTrimmedMean(f=1), deadline=1.0) as ps:
        assert torch.equal(await ps.round(), CoordinateWiseTrimmedMean(f=1).aggregate(rows(n=5, liars=0)[1:]))
        excluded = ps.history[0].excluded
        assert (excluded[0].node, excluded[0].reason) == ("honest-0", reason)
        assert detail in excluded[0].detail
        honest[0].release()
        while ps.history[-1].excluded:  # one that hung takes as long as it takes to come back
            await ps.round()
        assert len(ps.history) < 20
        torch.testing.assert_close(honest[0].w, honest[1].w)


@pytest.mark.parametrize("how", ["raises", "hangs"])
async def test_what_the_caller_does_with_an_aggregate_reaches_no_node(how: str) -> None:
    class Busy(Honest):
        free, tried = threading.Event(), False

        def apply_server_gradient(self, g: torch.Tensor) -> None:
            if self.index == 0 and not self.tried:
                self.tried = True
                if how == "raises":
                    raise OSError("busy")
                self.free.wait(20)
            super().apply_server_gradient(g)

    class First(Aggregator):
        def aggregate(self, gradients: Any) -> torch.Tensor:
            return gradients[-1]  # not a copy

    async with ParameterServer([Busy(i) for i in range(3)], [], First(), deadline=1.0) as ps:
        for _ in range(2):
            (await ps.round()).fill_(1e6)
        ps.hon[0].free.set()
        while ps.history[-1].excluded:
            await ps.round()
        assert [report.excluded[0].phase for report in ps.history[:1]] == ["apply"]
        assert torch.equal(ps.hon[0].w, ps.hon[1].w)
        assert ps.hon[1].w.abs().max() < 1e3


async def test_too_many_failures_raise_and_leave_the_server_usable() -> None:
    honest = [Bad(0, "raises"), Bad(1, "type"), *(Honest(i) for i in range(2, 5))]
    async with ParameterServer(honest, [], CoordinateWiseTrimmedMean(f=1)) as ps:
        with pytest.raises(ToleranceError, match=r"honest-0 .*disk full.*honest-1 .*type"):
            await ps.round()
        assert [exclusion.node for exclusion in ps.history[0].excluded] == ["honest-0", "honest-1"]
        for node in honest[:2]:
            node.rounds = ()
        assert torch.equal(await ps.round(), CoordinateWiseTrimmedMean(f=1).aggregate(rows(n=5, liars=0)))


async def test_a_round_that_no_honest_node_takes_up_raises_and_leaves_the_server_usable(
    tmp_path: Path,
) -> None:
    class Stubborn(Honest):
        def apply_server_gradient(self, g: torch.Tensor) -> None:
            if self.round == 1:
                self.round = 2
                raise OSError("read-only")
            super().apply_server_gradient(g)

    honest, store = [Stubborn(i) for i in range(4)], Checkpoint(tmp_path / "run.safetensors", every=1)
    async with ParameterServer(honest, [Liar()], MultiKrum(f=1, q=2), checkpoint=store) as server:
        await server.round()
        with pytest.raises(ToleranceError, match=r"needs 3 honest nodes .* 0 did.* honest-3 \(apply, raised"):
            await server.round()
        assert store.read()["round"] == 1
        assert [len(report.excluded) for report in server.history] == [0, 4]
        await server.round()
        assert [report.round for report in server.history] == [0, 1, 2]


async def test_a_rule_that_no_longer_fits_runs_with_a_lower_f() -> None:
    honest = [Bad(0, "raises"), *(Honest(i) for i in range(1, 5))]
    rule = MultiKrum(f=1, q=4)
    async with ParameterServer(honest, [], rule) as ps:
        assert torch.equal(await ps.round(), MultiKrum(f=0, q=4).aggregate(rows(n=5, liars=0)[1:]))


@dataclass(frozen=True)
class Refusing(Aggregator):
    """Runs on no rows, and says with which f."""

    f: int

    def aggregate(self, gradients: Any) -> Any:
        raise ToleranceError(f"Never with f={self.f}.")


async def test_a_rule_that_runs_with_no_f_is_refused_as_it_was_given() -> None:
    async with ParameterServer([Bad(0, "raises"), *map(Honest, range(1, 5))], [], Refusing(f=1)) as ps:
        with pytest.raises(ToleranceError, match=r"^Round 0: Never with f=1. Excluded: honest-0 .*disk full"):
            await ps.round()


async def test_a_round_that_fails_leaves_the_memory_of_the_rule_as_it_was() -> None:
    class Counting(StatefulAggregator):
        def step(self, gradients: Any, state: Any) -> tuple[Any, Any]:
            seen.append(None if state is None else int(state["rounds"]))
            return gradients[0], {"rounds": np.array(len(seen))}

    seen: list[int | None] = []
    honest = [*(Bad(i, "raises", (1,)) for i in range(3)), Honest(3), Honest(4)]
    async with ParameterServer(honest, [], Counting()) as ps:
        await ps.round()
        with pytest.raises(ToleranceError):
            await ps.round()
        for node in honest[:3]:
            node.rounds = ()
        await ps.round()
    assert seen == [None, 1]


async def test_a_round_that_was_cancelled_is_forgotten_when_a_run_is_taken_up(tmp_path: Path) -> None:
    class Waiting(AsyncHonest):
        is_open = asyncio.Event()

        async def apply_server_gradient(self, g: torch.Tensor) -> None:  # type: ignore[override]  # async
            entered.set()
            await self.is_open.wait()
            super().apply_server_gradient(g)

        def state_dict(self) -> Any:
            return {"w": self.w, "round": self.round}

        def load_state_dict(self, state: Any) -> None:
            self.w, self.round = state["w"], state["round"]

        saves_itself = True

    entered = asyncio.Event()
    store = Checkpoint(tmp_path / "run.safetensors", every=1)
    async with ParameterServer(
        [Waiting(i) for i in range(3)], [], CoordinateWiseMedian(), checkpoint=store
    ) as ps:
        Waiting.is_open.set()
        await ps.round()
        Waiting.is_open.clear()
        entered.clear()
        cancelled = asyncio.ensure_future(ps.round())
        await entered.wait()
        cancelled.cancel()
        await asyncio.wait([cancelled])
        Waiting.is_open.set()
        await ps.round()  # what was cancelled
        entered.clear()
        Waiting.is_open.clear()
        cancelled = asyncio.ensure_future(ps.round())
        await entered.wait()
        cancelled.cancel()
        await asyncio.wait([cancelled])
        Waiting.is_open.set()
        assert await ps.resume() == 2
        before = [node.w for node in ps.hon]
        aggregate = await ps.round()
        assert torch.equal(aggregate, CoordinateWiseMedian().aggregate([row(i, 2, 5) for i in range(3)]))
        assert ps.history[-1].round == 2
        assert all(torch.equal(node.w, w - 0.1 * aggregate) for node, w in zip(ps.hon, before, strict=True))


async def test_a_rule_too_demanding_from_the_start_says_so() -> None:
    async with ParameterServer(*plain(), MultiKrum(f=4, q=9)) as ps:
        with pytest.raises(ToleranceError, match="MultiKrum needs"):
            await ps.round()


async def test_a_cancelled_round_leaves_a_usable_server_and_no_node_steps_twice() -> None:
    honest = [Bad(0, "hangs"), *(Honest(i) for i in range(1, 5))]
    ps = ParameterServer(honest, [], CoordinateWiseMedian())
    task = asyncio.create_task(ps.round())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    honest[0].release()
    await ps.round()
    assert [node.round for node in honest] == [1] * 5
    await ps.shutdown()


async def test_reports_say_who_got_which_weight() -> None:
    async with ParameterServer(*plain(), MultiKrum(f=2, q=3)) as ps:
        await ps.round()
    report = ps.history[0]
    assert report.round == 0
    assert report.weights is not None
    assert sum(report.weights) == pytest.approx(1.0)
    assert report.byzantine_share == 0.0
    assert report.norms[0] == pytest.approx(float(rows()[0].norm()))
    assert set(report.seconds) == {"gradients", "attack", "aggregation", "apply"}
    assert report.bytes_moved == 0


async def test_reports_say_who_got_which_weight_of_long_vectors_too() -> None:
    d = reduction.SMALL // N_HONEST + 1
    async with ParameterServer([Honest(i, d) for i in range(N_HONEST)], [], MultiKrum(f=2, q=3)) as ps:
        aggregate = await ps.round()
    weights = ps.history[0].weights
    assert weights is not None
    mean = sum(w * row for w, row in zip(weights, rows(d=d, liars=0), strict=True))
    torch.testing.assert_close(aggregate, mean, atol=1e-6, rtol=1e-6)


class Odd(Aggregator):
    """A rule that makes of the mean what it should not."""

    def __init__(self, made: Any) -> None:
        self.made = made

    def aggregate(self, gradients: Any) -> Any:
        return self.made(sum(gradients))


@pytest.mark.parametrize(
    ("made", "got"),
    [
        (lambda total: None, "NoneType"),
        (lambda total: (total,), "tuple"),
        (lambda total: total[:3], r"shape \(3,\)"),
        (lambda total: total[None], r"shape \(1, 5\)"),
    ],
    ids=["nothing", "tuple", "part", "matrix"],
)
async def test_a_rule_that_returns_no_vector_like_the_others_is_named_and_nothing_is_applied(
    made, got
) -> None:
    honest = [Honest(i) for i in range(3)]
    before = [node.w.clone() for node in honest]
    async with ParameterServer(honest, [], Odd(made)) as ps:
        with pytest.raises(TypeError, match=rf"Odd must return a vector of shape \(5,\); got {got}"):
            await ps.round()
    assert all(torch.equal(node.w, w) for node, w in zip(honest, before, strict=True))


class Lazily:
    """A pre-aggregator that gives one row after another, or a number."""

    def __init__(self, made: Any) -> None:
        self.made = made

    def pre_aggregate(self, vectors: Any) -> Any:
        return self.made(vectors)


async def test_a_pre_aggregator_may_give_rows_one_by_one_but_has_to_give_rows() -> None:
    rule, honest = CoordinateWiseMedian(), [Honest(i) for i in range(3)]
    async with ParameterServer(honest, [], rule, Lazily(iter)) as ps:
        assert torch.equal(await ps.round(), rule.aggregate([row(i, 0, 5) for i in range(3)]))
    async with ParameterServer(honest, [], rule, Lazily(len)) as ps:
        with pytest.raises(TypeError, match=r"Lazily\.pre_aggregate must return a list of vectors; got int"):
            await ps.round()


@pytest.mark.parametrize("case", ATTACKS, ids=lambda case: case.name)
async def test_every_attack_runs_in_rounds_with_the_ready_made_nodes(case: Any) -> None:
    data = torch.randn(30, 3, generator=torch.Generator().manual_seed(0)), torch.arange(30) % 2
    honest = [TorchHonestNode(lambda: torch.nn.Linear(3, 2), data, node=i, momentum=0.5) for i in range(5)]
    liar = TorchByzantineNode(case.make(5), lambda: torch.nn.Linear(3, 2), data, node="b")
    async with ParameterServer(honest, [liar], CoordinateWiseMedian(), None, True) as ps:
        for _ in range(2):
            assert bool(torch.isfinite(await ps.round()).all())
        raised = [e for report in ps.history for e in report.excluded if e.reason is not Reason.NONFINITE]
        assert raised == []


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"aggregator": object()}, TypeError, "aggregate"),
        ({"pre_aggregator": object()}, TypeError, "pre_aggregate"),
        ({"honest_nodes": []}, ValueError, "at least one honest node"),
        ({"honest_nodes": [Liar()]}, TypeError, "honest_gradient_for_next_batch"),
        ({"byzantine_nodes": [Honest(0)]}, TypeError, "byzantine_gradient_for_next_batch"),
        ({"deadline": 0.0}, ValueError, "deadline"),
        ({"quorum": 10}, ValueError, "quorum"),
    ],
)
def test_a_bad_argument_is_named(change: dict[str, Any], error: type[Exception], text: str) -> None:
    honest, liars = plain()
    arguments = {"honest_nodes": honest, "byzantine_nodes": liars, "aggregator": CoordinateWiseMedian()}
    with pytest.raises(error, match=text):
        ParameterServer(**{**arguments, **change})


async def test_a_handle_of_a_class_without_the_method_is_refused_by_name() -> None:
    async with await HonestNodeActor.spawn(Liar, backend="thread") as node:
        with pytest.raises(TypeError, match="'honest_gradient_for_next_batch'; class 'Liar' has none"):
            ParameterServer([node], (), CoordinateWiseMedian())


async def test_numpy_nodes_get_a_numpy_aggregate() -> None:
    class Node:
        def honest_gradient_for_next_batch(self) -> np.ndarray:
            return np.ones(3)

        def apply_server_gradient(self, g: np.ndarray) -> None:
            self.g = g

    async with ParameterServer([Node(), Node()], (), CoordinateWiseMedian()) as ps:
        assert isinstance(await ps.round(), np.ndarray)
        assert isinstance(ps.hon[0].g, np.ndarray)


async def test_a_server_that_is_shut_down_says_so() -> None:
    ps = ParameterServer(*plain(), CoordinateWiseMedian())
    await ps.shutdown()
    await ps.shutdown()
    with pytest.raises(RuntimeError, match="shut down"):
        await ps.round()


async def test_malformed_answers_do_not_break_rounds() -> None:
    honest = [Honest(i, 3) for i in range(4)]
    bad = [Malformed(i) for i in range(6)]
    ps = ParameterServer([*honest, *bad[:3]], bad[3:], CoordinateWiseMedian(), quorum=4)
    async with ps:
        for round in range(12):
            aggregate = await ps.round()
            assert torch.equal(
                aggregate, CoordinateWiseMedian().aggregate([row(i, round, 3) for i in range(4)])
            )
            out = {exclusion.node for exclusion in ps.history[-1].excluded}
            assert out >= {"honest-4", "honest-5", "honest-6", "byzantine-0", "byzantine-1", "byzantine-2"}


async def test_a_node_that_raises_the_loss_of_its_worker_is_only_left_out() -> None:
    class Pretends(Honest):
        def honest_gradient_for_next_batch(self) -> Any:  # type: ignore[override]  # that is the point
            raise NodeLostError("gone, honestly")

    async with ParameterServer([*plain()[0], Pretends(9)], [], CoordinateWiseMedian()) as ps:
        await ps.round()
        assert [exclusion.reason for exclusion in ps.history[0].excluded] == [Reason.RAISED]


async def test_a_liar_cannot_change_its_vector_after_it_was_checked() -> None:
    class Later(Liar):
        def byzantine_gradient_for_next_batch(self, honest_grads: Any) -> torch.Tensor:
            self.kept = torch.zeros(5)
            return self.kept

    liar, rule = Later(), CoordinateWiseMedian()

    class Spoils(CoordinateWiseMedian):
        def aggregate(self, gradients: Any) -> Any:
            liar.kept.fill_(float("nan"))
            assert all(bool(torch.isfinite(vector).all()) for vector in gradients)
            return rule.aggregate(gradients)

    async with ParameterServer(plain()[0], [liar], _Opaque(Spoils())) as ps:
        assert torch.isfinite(await ps.round()).all()


@pytest.mark.parametrize("rule", [MultiKrum(f=1, q=2), CenteredClipping(c_tau=1.0)], ids=type)
async def test_large_vectors_of_this_process_are_aggregated_on_the_client_s_cluster(rule: Any) -> None:
    d, tasks = 200_000, set()
    with dask.config.set({"byzflow.graph.in-place-below": 0}):
        async with (
            LocalCluster(n_workers=1, processes=False, asynchronous=True, dashboard_address=":0") as cluster,
            Client(cluster, asynchronous=True) as client,
        ):
            cluster.scheduler.add_plugin(_Seen(tasks), name="seen")
            for given in (client, cluster):
                tasks.clear()
                honest = [Honest(i, d) for i in range(5)]
                async with ParameterServer(honest, [], rule, client=given) as ps:
                    aggregate = await ps.round()
                assert torch.equal(aggregate, rule.aggregate([row(i, 0, d) for i in range(5)]))
                assert tasks
            assert client.status == "running"


def test_a_client_that_is_none_is_refused() -> None:
    with pytest.raises(TypeError, match=r"client must be a distributed.Client or a cluster; got str"):
        ParameterServer([Honest(0)], [], CoordinateWiseMedian(), client="tcp")


class _Seen(SchedulerPlugin):
    def __init__(self, tasks: set[Any]) -> None:
        self.tasks = tasks

    def transition(self, key: Any, start: str, finish: str, *args: Any, **kwargs: Any) -> None:
        if finish == "memory" and not str(key).startswith("byzflow-host"):
            self.tasks.add(key)


class _Opaque:
    """A rule that the server can only call."""

    def __init__(self, rule: Any) -> None:
        self.aggregate = rule.aggregate


@pytest.mark.parametrize("where", ["plain", "thread"])
async def test_liars_cannot_spoil_large_vectors_for_each_other_or_for_anybody(where: str) -> None:
    d = 300_000
    honest, liars = [Honest(i, d) for i in range(N_HONEST)], [Liar() for _ in range(N_LIARS)]
    if where == "thread":
        honest, liars = await spawned("thread", d)
    rule = CoordinateWiseMedian()
    async with ParameterServer(honest, liars, rule) as ps:
        for round in range(3):
            assert torch.equal(await ps.round(), rule.aggregate(rows(round, d)))
            assert not ps.history[-1].excluded
