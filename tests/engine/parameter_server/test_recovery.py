"""A worker that is killed in any phase changes no bit of the result."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import dask
import pytest
import torch

from byzflow.aggregators.average import Average
from byzflow.aggregators.base import StatefulAggregator
from byzflow.aggregators.coordinate_wise import CoordinateWiseMedian, CoordinateWiseTrimmedMean
from byzflow.engine.checkpoint import Checkpoint
from byzflow.engine.node.actors import ByzantineNodeActor, HonestNodeActor, Recipe
from byzflow.engine.parameter_server import ParameterServer
from byzflow.engine.rounds import rota, sites
from byzflow.exceptions import CheckpointError
from tests.engine.forgiving import forgiving_cluster
from tests.engine.parameter_server.mortal import MortalHonest, MortalLiar
from tests.engine.parameter_server.nodes import Honest
from tests.engine.sine_node import SineNode

ROUNDS = 6
PATIENT = {  # both workers may be gone, and the machine busy
    "byzflow.cluster.workers": 2,
    "byzflow.comm.connect-timeout": "120s",
}
RULE = CoordinateWiseTrimmedMean(f=1)


async def parameters(honest: list[Any], liars: list[Any]) -> tuple[list[torch.Tensor], ParameterServer]:
    async with ParameterServer(honest, liars, RULE, None, True, deadline=30.0) as ps:
        for _ in range(ROUNDS):
            await ps.round()
        vectors = [node.get_param_vector() for node in honest]
        return [v if isinstance(v, torch.Tensor) else await v for v in vectors], ps


@pytest.mark.processes
@pytest.mark.parametrize(
    ("large", "deaths"),
    [(1, {"gradients": 1, "apply": 4}), (10**9, {"apply": 1, "attack": 4})],
    ids=["shared", "sent"],
)
async def test_kills_in_every_phase_leave_the_bits_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, large: int, deaths: dict[str, int]
) -> None:
    monkeypatch.setattr(sites, "LARGE", large)
    monkeypatch.setattr(sites, "TIMES", 1)
    monkeypatch.setattr(rota, "HEAVY", large)
    flags = str(tmp_path)
    honest_deaths = [deaths, {}, {}, {}]
    with dask.config.set(PATIENT | {"byzflow.round.snapshot-every": 2}):
        honest = await HonestNodeActor.spawn_many(
            [Recipe(MortalHonest, (i, fate, flags)) for i, fate in enumerate(honest_deaths)],
            backend="process",
        )
        liars = await ByzantineNodeActor.spawn_many(
            [Recipe(MortalLiar, (9, deaths, flags))], backend="process"
        )
        got, killed = await parameters(honest, liars)
    want, _ = await parameters([MortalHonest(i) for i in range(4)], [MortalLiar(9)])
    assert [bool(report.respawned) for report in killed.history] == [
        number in deaths.values() for number in range(ROUNDS)
    ]
    assert all(report.excluded == () for report in killed.history)
    assert all(map(torch.equal, got, want))


class Momentum(StatefulAggregator):
    """A rule with a memory: the mean of all means so far."""

    def step(self, gradients: Any, state: Any) -> Any:
        mean = torch.stack(list(gradients)).mean(dim=0)
        velocity = mean if state is None else 0.5 * state["velocity"] + mean
        return velocity, {"velocity": velocity}


def server(path: Path, rule: Any = None) -> ParameterServer:
    honest = [MortalHonest(i) for i in range(3)]
    store = Checkpoint(path / "run.safetensors", every=2)
    return ParameterServer(honest, [MortalLiar(9)], rule or Momentum(), None, True, checkpoint=store)


async def test_a_new_process_resumes_bit_for_bit(tmp_path: Path) -> None:
    straight = server(tmp_path / "a")
    want = [await straight.round() for _ in range(7)]
    first = server(tmp_path / "b")
    for _ in range(5):
        await first.round()
    second = server(tmp_path / "b")
    assert await second.resume() == 4
    got = [await second.round() for _ in range(3)]
    assert all(map(torch.equal, got, want[4:]))
    for one, other in zip(straight.hon, second.hon, strict=True):
        assert torch.equal(one.get_param_vector(), other.get_param_vector())


@pytest.mark.processes
async def test_a_death_after_going_back_is_made_good_too(tmp_path: Path) -> None:
    straight = server(tmp_path / "a")
    want = [await straight.round() for _ in range(6)]
    with dask.config.set(PATIENT | {"byzflow.round.snapshot-every": 5}):
        honest = await HonestNodeActor.spawn_many(
            [Recipe(MortalHonest, (i,)) for i in range(3)], backend="process"
        )
        store = Checkpoint(tmp_path / "b.safetensors", every=4)
        ps = ParameterServer(honest, [MortalLiar(9)], Momentum(), None, True, checkpoint=store, deadline=30.0)
        async with ps:
            for _ in range(6):
                await ps.round()
            assert await ps.resume() == 4
            cluster = honest[0]._place()[0].runtime.client.cluster
            os.kill(next(iter(cluster.workers.values())).pid, signal.SIGKILL)
            got = [await ps.round() for _ in range(2)]
    assert all(map(torch.equal, got, want[4:]))


class Learner:
    """A Byzantine node that sends minus the mean of all it has been shown, and may carry a data set."""

    def __init__(self, ballast: int = 0) -> None:
        self.seen, self.data = torch.zeros(D), torch.zeros(ballast)

    def byzantine_gradient_for_next_batch(self, honest_grads: Any) -> torch.Tensor:
        self.seen = 0.9 * self.seen + torch.stack(tuple(honest_grads)).mean(dim=0)
        return -self.seen


D = 40_000  # more bytes than `memory.LIGHT`


async def learned(liar: Any, honest: list[Any]) -> list[torch.Tensor]:
    """Run rounds, and take down the liar's worker before the third after a snapshot."""
    async with ParameterServer(honest, [liar], Average(), deadline=30.0) as ps:
        found = [await ps.round() for _ in range(5)]
        if hasattr(liar, "_place"):
            host = liar._place()[0]
            cluster = host.runtime.client.cluster
            (pid,) = [w.pid for w in cluster.workers.values() if w.worker_address == host.address]
            os.kill(pid, signal.SIGKILL)
        return found + [await ps.round() for _ in range(3)]


@pytest.mark.processes
@pytest.mark.parametrize(
    ("ballast", "large"),
    [(0, 10**9), (10 * D, 10**9), (10 * D, 1)],
    ids=["large", "with a data set", "with a data set, shown what stays with its hosts"],
)
async def test_what_an_attack_has_learned_comes_back(
    monkeypatch: pytest.MonkeyPatch, ballast: int, large: int
) -> None:
    monkeypatch.setattr(sites, "LARGE", large)
    monkeypatch.setattr(sites, "TIMES", 1)
    with dask.config.set(PATIENT | {"byzflow.round.snapshot-every": 3}):
        recipes = [Recipe(Honest, (i, D)) for i in range(3)]
        honest = await HonestNodeActor.spawn_many(recipes, backend="process")
        (liar,) = await ByzantineNodeActor.spawn_many([Recipe(Learner, (ballast,))], backend="process")
        got = await learned(liar, honest)
    want = await learned(Learner(), [Honest(i, D) for i in range(3)])
    assert all(map(torch.equal, got, want))


class Pickled:
    """A node of the user's own, with no state_dict."""

    def __init__(self) -> None:
        self.count = 0

    def honest_gradient_for_next_batch(self) -> torch.Tensor:
        self.count += 1
        return torch.full((2,), float(self.count))

    def apply_server_gradient(self, g: torch.Tensor) -> None:
        self.g = g


async def test_nodes_of_ones_own_resume_too(tmp_path: Path) -> None:
    store = Checkpoint(tmp_path / "run.safetensors", every=1)
    first = ParameterServer([Pickled(), Pickled()], [], Momentum(), checkpoint=store)
    await first.round()
    second = ParameterServer([Pickled(), Pickled()], [], Momentum(), checkpoint=store)
    assert await second.resume() == 1
    assert (await second.round()).tolist() == [2.5, 2.5]


async def test_a_checkpoint_of_other_nodes_is_refused(tmp_path: Path) -> None:
    store = Checkpoint(tmp_path / "run.safetensors", every=1)
    await ParameterServer([Pickled(), Pickled()], [], Momentum(), checkpoint=store).round()
    with pytest.raises(CheckpointError, match="must hold the nodes of this run, 3"):
        await ParameterServer([Pickled() for _ in range(3)], [], Momentum(), checkpoint=store).resume()
    with pytest.raises(CheckpointError, match="must fit the nodes; honest-0 refused"):
        await ParameterServer([MortalHonest(0), MortalHonest(1)], [], Momentum(), checkpoint=store).resume()


async def test_without_a_checkpoint_there_is_nothing_to_resume() -> None:
    with pytest.raises(ValueError, match="needs a checkpoint"):
        await ParameterServer([Pickled()], [], Momentum()).resume()


class Busy(SineNode):
    """Raises the first times that it is asked to take the update of round 1."""

    def __init__(self, number: int, times: int = 0) -> None:
        super().__init__(number)
        self.times, self.round = times, 0

    def begin_round(self, round: int) -> None:
        self.round = round

    def apply_server_gradient(self, gradient: Any) -> None:
        if self.round == 1 and self.times > 0:
            self.times -= 1
            raise OSError("the disk is full")
        super().apply_server_gradient(gradient)

    def told(self) -> torch.Tensor:
        return self.vector


@pytest.mark.parametrize("times", [1, 2, 3, 5])
async def test_an_update_that_fails_some_times_is_not_left_out(times: int) -> None:
    nodes = [Busy(0), Busy(1), Busy(2), Busy(3, times)]
    nodes[3].vector = nodes[2].vector.clone()
    async with ParameterServer(nodes, [], CoordinateWiseMedian()) as ps:
        for _ in range(7):
            await ps.round()
    assert ps.history[1].excluded[-1].node == "honest-3"
    assert ps.history[6].excluded == ()
    assert torch.equal(nodes[3].vector, nodes[2].vector)


async def busy_run(nodes: list[Any], cluster: Any = None) -> list[Any]:
    """Return the vectors of nodes after five rounds, before the third of which a worker goes."""
    async with ParameterServer(nodes, [], CoordinateWiseMedian()) as ps:
        for number in range(5):
            if number == 2 and cluster is not None:
                await next(iter(cluster.workers.values())).close()
            await ps.round()
        assert [len(report.excluded) for report in ps.history] == [0, 2, 0, 0, 0]
        assert bool(ps.history[2].respawned) == (cluster is not None)
        told = [node.told() for node in nodes]
        return told if cluster is None else [await vector for vector in told]


async def test_an_update_that_fails_again_while_a_node_catches_up_is_not_left_out() -> None:
    recipes = [Recipe(Busy, (i, int(i in (2, 3)))) for i in range(6)]  # one on each worker
    async with forgiving_cluster(2) as cluster:
        got = await busy_run(await HonestNodeActor.spawn_many(recipes, backend=cluster), cluster)
    want = await busy_run([Busy(*recipe.args) for recipe in recipes])
    assert all(map(torch.equal, got, want))
