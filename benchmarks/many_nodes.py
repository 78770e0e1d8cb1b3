"""Time rounds of a thousand nodes on two worker processes against the same arithmetic without an engine.

    python -m benchmarks.many_nodes [--nodes 1000] [--d 1000] [--byzantine 0 100] [--rule median|krum ...]
                                    [--node quadratic|softmax] [--rounds 9] [--json FILE]

The nodes are plain: an honest one descends a quadratic of its own, which takes three operations of torch,
the least that a node can do; or it trains softmax regression on 32 samples by autograd, the least that a
model takes. A Byzantine one hands in minus the mean of what it was shown. "arithmetic" is a loop over the
same nodes in one thread of this process, where all Byzantine nodes see the very same tensors, and the
eager rule on their vectors, with the threads it also has in the engine. Rounds of both are timed in turns
and the medians compared. The calls to hosts and the tasks that the Dask scheduler saw are counted per
round: they must not grow with the number of nodes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import dask
import torch
from distributed.diagnostics.plugin import SchedulerPlugin

from byzflow.aggregators.coordinate_wise import CoordinateWiseMedian
from byzflow.aggregators.geometric_wise import MultiKrum
from byzflow.engine.actor.hostref import HostRef
from byzflow.engine.actor.runtime import Runtime
from byzflow.engine.node.actors import ByzantineNodeActor, HonestNodeActor, Recipe
from byzflow.engine.parameter_server.ps import ParameterServer

WORKERS = 2


class Honest:
    """Descends |w - target|² / 2 from zero."""

    def __init__(self, seed: int, d: int) -> None:
        self.target = torch.randn(d, generator=torch.Generator().manual_seed(seed))
        self.w = torch.zeros(d)

    def honest_gradient_for_next_batch(self) -> torch.Tensor:
        return self.w - self.target

    def apply_server_gradient(self, g: torch.Tensor) -> None:
        self.w = self.w - 0.1 * g


class Softmax(Honest):
    """Descends the cross-entropy of 32 random samples of 10 classes from zero."""

    def __init__(self, seed: int, d: int) -> None:
        super().__init__(seed, d)
        stream = torch.Generator().manual_seed(seed)
        self.x = torch.randn(32, d // 10, generator=stream)
        self.y = torch.randint(10, (32,), generator=stream)

    def honest_gradient_for_next_batch(self) -> torch.Tensor:
        w = self.w.requires_grad_()
        loss = torch.nn.functional.cross_entropy(self.x @ w.view(-1, 10), self.y)
        return torch.autograd.grad(loss, w)[0]

    def apply_server_gradient(self, g: torch.Tensor) -> None:
        self.w = self.w.detach() - 0.1 * g


NODES = {"quadratic": Honest, "softmax": Softmax}


class Byzantine:
    """Hands in minus the honest mean."""

    def byzantine_gradient_for_next_batch(self, honest_grads: Sequence[torch.Tensor]) -> torch.Tensor:
        return -torch.stack(tuple(honest_grads)).mean(dim=0)


class Tally(SchedulerPlugin):
    """Counts the tasks that a scheduler hands to workers."""

    tasks = 0

    def transition(self, key: Any, start: str, finish: str, *args: Any, **kwargs: Any) -> None:
        self.tasks += finish == "processing"


@contextmanager
def counted() -> Iterator[Counter[str]]:
    """Count the calls to node hosts, by method."""
    calls: Counter[str] = Counter()
    original = HostRef.execute

    async def execute(self: HostRef, method: str, *args: Any, **kwargs: Any) -> Any:
        calls[method] += 1
        return await original(self, method, *args, **kwargs)

    HostRef.execute = execute  # type: ignore[method-assign]  # every call goes through it
    try:
        yield calls
    finally:
        HostRef.execute = original  # type: ignore[method-assign]  # as it was


def make_rule(name: str, byzantine: int) -> Any:
    f = max(1, byzantine)
    return CoordinateWiseMedian() if name == "median" else MultiKrum(f=f, q=f)


def bare_round(honest: Sequence[Honest], byzantine: Sequence[Byzantine], rule: Any) -> torch.Tensor:
    """One round without an engine."""
    rows = [node.honest_gradient_for_next_batch() for node in honest]
    rows += [node.byzantine_gradient_for_next_batch(tuple(rows[: len(honest)])) for node in byzantine]
    aggregate: torch.Tensor = rule.aggregate(rows)
    for node in honest:
        node.apply_server_gradient(aggregate)
    return aggregate


async def contest(name: str, nodes: int, byzantine: int, d: int, rounds: int, kind: str) -> dict[str, Any]:
    """Return the median round times [seconds], and what a round asked of hosts and scheduler."""
    n_honest, rule, tally = nodes - byzantine, make_rule(name, byzantine), Tally()
    runtime = await Runtime.acquire("process")
    runtime.client.cluster.scheduler.add_plugin(tally)
    start = time.perf_counter()
    recipes = [Recipe(NODES[kind], (seed, d)) for seed in range(n_honest)]
    honest = await HonestNodeActor.spawn_many(recipes, backend="process")
    liars = await ByzantineNodeActor.spawn_many([Recipe(Byzantine)] * byzantine, backend="process")
    ready = time.perf_counter() - start
    bare = [NODES[kind](seed, d) for seed in range(n_honest)], [Byzantine()] * byzantine
    times: dict[str, list[float]] = {"arithmetic": [], "byzflow": []}
    async with ParameterServer(honest, liars, rule, seed=0) as server:
        assert torch.equal(await server.round(), bare_round(*bare, rule))
        with counted() as calls:
            tally.tasks = 0
            for _ in range(rounds):
                start = time.perf_counter()
                got = await server.round()
                times["byzflow"].append(time.perf_counter() - start)
                start = time.perf_counter()
                want = bare_round(*bare, rule)
                times["arithmetic"].append(time.perf_counter() - start)
                assert torch.equal(got, want)
        phases = {k: median(r.seconds[k] for r in server.history[1:]) for k in server.history[0].seconds}
    tasks = tally.tasks
    await runtime.release()
    seconds = {key: median(values) for key, values in times.items()}
    return {
        "rule": name,
        "nodes": nodes,
        "byzantine": byzantine,
        "d": d,
        "node": kind,
        "seconds": seconds,
        "ratio": seconds["byzflow"] / seconds["arithmetic"],
        "phases": phases,
        "ready": ready,
        "calls": sum(calls.values()) / rounds,
        "tasks": tasks / rounds,
    }


def show(who: str, row: dict[str, Any], more: str = "") -> None:
    """Print one measurement."""
    phases = ", ".join(f"{phase} {seconds * 1e3:.1f}" for phase, seconds in row["phases"].items())
    print(
        f"{who}, d={row['d']}: {row['seconds']['byzflow'] * 1e3:.1f} ms a round, arithmetic "
        f"{row['seconds']['arithmetic'] * 1e3:.1f} ms, ratio {row['ratio']:.2f}\n"
        f"  per round: {row['calls']:.1f} calls to {WORKERS} hosts; phases [ms]: {phases}{more}",
        flush=True,
    )


def parser_of(text: str | None) -> argparse.ArgumentParser:
    """Return a parser of what all benchmarks of many nodes take."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--d", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path)
    return parser


def main() -> None:
    """Parse the command line, measure, print, write."""
    parser = parser_of(__doc__)
    parser.add_argument("--byzantine", type=int, nargs="+", default=[0, 100])
    parser.add_argument("--rule", choices=("median", "krum"), nargs="+", default=["median", "krum"])
    parser.add_argument("--node", choices=tuple(NODES), nargs="+", default=["quadratic", "softmax"])
    options = parser.parse_args()
    rows = []
    with dask.config.set({"byzflow.cluster.workers": WORKERS}):
        for kind, name, byzantine in product(options.node, options.rule, options.byzantine):
            case = contest(name, options.nodes, byzantine, options.d, options.rounds, kind)
            rows.append(asyncio.run(case))
            who = f"{options.nodes} {kind} nodes ({byzantine} Byzantine), {name}"
            tasks = f"; {rows[-1]['tasks']:.1f} Dask tasks"
            show(who, rows[-1], f"{tasks}; spawned in {rows[-1]['ready']:.1f} s")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
