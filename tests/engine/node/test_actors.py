"""Spawning nodes: backends by name and by instance, handles, refusals."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from byzflow.aggregators.coordinate_wise import CoordinateWiseMedian
from byzflow.engine.actor.backends.thread import ThreadActorBackend
from byzflow.engine.actor.base import ActorRef
from byzflow.engine.actor.hostref import HostRef
from byzflow.engine.graph.pool import ActorPool, ActorPoolConfig
from byzflow.engine.node.actors import ByzantineNodeActor, HonestNodeActor, NodeActor, Recipe
from byzflow.engine.node.context import DaskContext
from byzflow.engine.parameter_server import ParameterServer
from byzflow.engine.peer_to_peer.topology import Topology
from byzflow.engine.peer_to_peer.train import PeerToPeer
from byzflow.engine.rounds.answers import Reason
from byzflow.exceptions import NodeLostError


class Honest:
    def __init__(self, value: float = 1.0, *, shift: float = 0.0) -> None:
        self.value = value + shift

    def honest_gradient_for_next_batch(self) -> list[float]:
        return [self.value]

    def apply_server_gradient(self, vec: Any) -> None:
        self.value = vec

    async def later(self, value: int) -> int:
        return value + 1


class Peer:
    def p2p_half_step(self, lr: float) -> float:
        return lr


class Liar:
    def byzantine_gradient_for_next_batch(self, honest_grads: Any) -> Any:
        return honest_grads[0]


class Drawing(Honest):
    """Its model is drawn from torch's global stream, which it may seed."""

    def __init__(self, seed: int | None = None) -> None:
        super().__init__()
        if seed is not None:
            torch.manual_seed(seed)
        self.model = torch.nn.Linear(50, 50)

    def drawn(self) -> list[float]:
        return torch.nn.utils.parameters_to_vector(self.model.parameters()).tolist()


@pytest.mark.parametrize("is_seeding", [False, True])
async def test_nodes_draw_their_models_as_in_a_loop(is_seeding: bool) -> None:
    seeds = [i if is_seeding else None for i in range(20)]
    for _ in range(5):
        torch.manual_seed(0)
        want = [Drawing(seed).drawn() for seed in seeds]
        torch.manual_seed(0)
        nodes = await HonestNodeActor.spawn_many([Recipe(Drawing, (s,)) for s in seeds], backend="thread")
        assert [await node.drawn() for node in nodes] == want
        await HonestNodeActor.close_many(nodes)


@pytest.mark.parametrize("backend", ["thread", ThreadActorBackend])
async def test_a_handle_has_the_nodes_methods_as_coroutines(backend: Any) -> None:
    backend = backend if isinstance(backend, str) else backend()
    node = await HonestNodeActor.spawn(Honest, backend=backend, args=(2.0,), kwargs={"shift": 1.0})
    assert await node.honest_gradient_for_next_batch() == [3.0]
    assert await node.later(1) == 2
    await node.apply_server_gradient(7.0)
    assert await node.honest_gradient_for_next_batch() == [7.0]
    with pytest.raises(AttributeError, match="nothing"):
        await node.nothing()
    await node.close()
    await node.close()


async def test_assignment_stays_local_to_the_handle() -> None:
    node = await HonestNodeActor.spawn(Honest, backend="thread")
    node.value = 5.0
    assert node.value == 5.0
    assert await node.honest_gradient_for_next_batch() == [1.0]
    await node.close()


@pytest.mark.parametrize("kind", [HonestNodeActor, ByzantineNodeActor])
async def test_any_class_or_factory_may_be_spawned(kind: type[NodeActor]) -> None:
    class Echo:
        def ping(self, x: int) -> int:
            return x

    for made_by in (Echo, lambda: Echo()):
        async with await kind.spawn(made_by, backend="thread") as node:
            assert await node.ping(3) == 3
            with pytest.raises(AttributeError, match="train"):
                await node.train()


async def test_a_peer_needs_no_server_methods() -> None:
    node = await HonestNodeActor.spawn(Peer, backend="thread")
    assert await node.p2p_half_step(0.5) == 0.5
    await node.close()


@pytest.mark.parametrize("kind", [HonestNodeActor, ByzantineNodeActor])
async def test_an_unknown_backend_is_a_value_error(kind: type[NodeActor]) -> None:
    with pytest.raises(ValueError, match="nowhere"):
        await kind.spawn({HonestNodeActor: Honest, ByzantineNodeActor: Liar}[kind], backend="nowhere")


async def test_many_nodes_of_one_backend_share_its_hosts() -> None:
    nodes = await HonestNodeActor.spawn_many(
        [Recipe(Honest, (float(i),)) for i in range(20)], backend="thread"
    )
    assert [(await node.honest_gradient_for_next_batch())[0] for node in nodes] == list(range(20))
    assert len({id(node._place()[0]) for node in nodes}) <= 2
    for node in nodes:
        await node.close()


async def test_if_one_of_many_fails_none_is_left() -> None:
    with pytest.raises(TypeError):
        await HonestNodeActor.spawn_many([Recipe(Honest), Recipe(Honest, (1, 2, 3))], backend="thread")


async def test_a_constructors_error_comes_through() -> None:
    def broken() -> Any:
        raise LookupError("no data here")

    with pytest.raises(LookupError, match="no data here"):
        await HonestNodeActor.spawn(broken, backend="thread")


class Counting:
    """Says of itself that it counts rounds and only reads."""

    only_reads = saves_itself = True

    def __init__(self) -> None:
        self.rounds: list[int] = []
        self.last: Any = None

    def begin_round(self, round: int) -> None:
        self.rounds.append(round)

    def honest_gradient_for_next_batch(self) -> Any:
        return torch.full((2,), float(len(self.rounds)))

    def apply_server_gradient(self, vec: Any) -> None:
        self.last = vec

    def p2p_half_step(self, lr: float) -> Any:
        return torch.full((2,), float(len(self.rounds)))

    def p2p_aggregate_and_set(self, own: Any, neighbors: Any) -> None:
        self.last = torch.stack([own, *neighbors]).mean(dim=0)


class Async:
    """Coroutines, and not a word about itself."""

    last: Any = None

    async def honest_gradient_for_next_batch(self) -> Any:
        return torch.ones(2)

    async def apply_server_gradient(self, vec: Any) -> None:
        self.last = vec


class Elsewhere:
    """A backend of somebody else's: it has what the protocol asks, and nothing of Dask."""

    async def start(self) -> None:
        pass

    async def construct(self, cls_or_factory: Any, *, args: Any, kwargs: Any) -> None:
        self.subject = cls_or_factory(*args, **kwargs)

    async def call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        return getattr(self.subject, method)(*args, **kwargs)

    async def close(self) -> None:
        pass


async def test_a_node_on_a_foreign_backend_is_asked_like_any_other() -> None:
    backends = [Elsewhere(), Elsewhere(), Elsewhere()]
    nodes = [await HonestNodeActor.spawn(Counting, backend=backend) for backend in backends[:2]]
    nodes.append(await HonestNodeActor.spawn(Async, backend=backends[2]))
    async with ParameterServer(nodes, [], CoordinateWiseMedian()) as ps:
        for _ in range(3):
            await ps.round()
    assert backends[0].subject.rounds == [0, 0, 1, 1, 2, 2]
    assert backends[0].subject.last.tolist() == [5.0, 5.0]
    assert not ps.history[-1].excluded


async def test_a_peer_on_a_foreign_backend_is_asked_like_any_other() -> None:
    backends = [Elsewhere(), Elsewhere()]
    nodes = [await HonestNodeActor.spawn(Counting, backend=backend) for backend in backends]
    async with PeerToPeer(nodes, [], Topology.complete(2)) as p2p:
        await p2p.round()
        await p2p.round()
    assert backends[0].subject.last.tolist() == [3.0, 3.0]


async def test_a_bare_reference_is_not_asked_what_it_answers_to_every_name() -> None:
    refs = []
    for _ in range(3):
        ref = ActorRef(Elsewhere())
        await ref._backend.construct(Async, args=(), kwargs={})
        refs.append(ref)
    async with ParameterServer(refs, [], CoordinateWiseMedian()) as ps:
        assert (await ps.round()).tolist() == [1.0, 1.0]
    assert refs[0]._backend.subject.last.tolist() == [1.0, 1.0]


def served(nodes: list[Any]) -> ParameterServer:
    return ParameterServer(nodes, [], CoordinateWiseMedian(), quorum=2)


def among_peers(nodes: list[Any]) -> PeerToPeer:
    return PeerToPeer(nodes, [], Topology.complete(3), quorum=2)


class Gone(Elsewhere):
    async def call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        raise NodeLostError("its machine is off")


@pytest.mark.parametrize("make", [served, among_peers])
async def test_a_bare_reference_to_a_lost_object_is_lost(make: Any) -> None:
    refs = [ActorRef(kind()) for kind in (Elsewhere, Elsewhere, Gone)]
    for ref in refs:
        await ref._backend.construct(Counting, args=(), kwargs={})
    async with make(refs) as run:
        await run.round()
        await run.round()
    assert {out.node for report in run.history for out in report.excluded} == {"honest-2"}
    assert {out.reason for report in run.history for out in report.excluded} == {Reason.LOST}


async def test_a_thousand_nodes_take_one_call_per_host(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    execute = HostRef.execute

    async def spy(self: HostRef, method: str, *args: Any, deadline: float | None = None) -> Any:
        seen.append((self.address, method))
        return await execute(self, method, *args, deadline=deadline)

    monkeypatch.setattr(HostRef, "execute", spy)
    nodes = await HonestNodeActor.spawn_many([Recipe(Honest, (1.0,))] * 1000, backend="thread")
    assert [method for _, method in seen] == ["spawn_many"]
    for node in nodes:
        await node.close()


def test_many_nodes_need_a_backend_for_many() -> None:
    with pytest.raises(TypeError, match="one by one"):
        asyncio.run(HonestNodeActor.spawn_many([Recipe(Honest)], backend=Elsewhere()))


async def test_a_handle_closes_its_node_at_the_end_of_async_with() -> None:
    async with await HonestNodeActor.spawn(Honest, backend="thread") as node:
        assert await node.honest_gradient_for_next_batch() == [1.0]
    with pytest.raises(RuntimeError):
        await node.honest_gradient_for_next_batch()


async def test_runs_close_the_nodes_that_are_plain_references() -> None:
    for run in (
        lambda nodes: ParameterServer(nodes, [], CoordinateWiseMedian()),
        lambda nodes: PeerToPeer(nodes, [], Topology.ring(2)),
    ):
        places = [ThreadActorBackend() for _ in range(2)]
        for place in places:
            await place.construct(Honest)
        await run(list(map(ActorRef, places))).shutdown()
        assert [place.runtime for place in places] == [None, None]


@pytest.mark.parametrize("backend", [None, 3, ThreadActorBackend])
async def test_what_is_no_backend_is_refused_by_name(backend: Any) -> None:
    for start in (
        lambda: HonestNodeActor.spawn(Honest, backend=backend),
        lambda: ActorPool([ActorPoolConfig(backend)]).start(),
        lambda: DaskContext(backend).start(SimpleNamespace(node_id="a")),
    ):
        with pytest.raises(TypeError, match="backend must be an object with start"):
            await start()
