"""What rounds leave behind, measured in a process of their own: a script for `test_leaks`."""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import threading
import tracemalloc
from collections import Counter, deque
from pathlib import Path
from typing import Any

import dask

from byzflow.aggregators.coordinate_wise import CoordinateWiseMedian
from byzflow.engine.node.actors import ByzantineNodeActor, HonestNodeActor, Recipe
from byzflow.engine.parameter_server import ParameterServer
from tests.engine.parameter_server.nodes import Honest, Liar

LOOKS = 1000  # some 20 ms: Dask's monitor opens files of /proc for a moment, in threads of its own
COUNTS = 4
ROUNDS = (100, 550, 1000)  # after which the readings are taken
SETTLED, COUNTED = 100, 450  # rounds before objects are first counted, and until they are counted again

# What Dask logs by the clock, not by the round: profiles of its threads and the load of the machine.
BY_THE_CLOCK = {"distributed.worker.profile.enabled": False, "distributed.admin.system-monitor.log-length": 1}


CONTAINERS = (deque, dict, frozenset, list, set)


class Hoarder(Honest):
    """A node that keeps one float, which the garbage collector does not see, of every round."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.kept: list[float] = []

    def honest_gradient_for_next_batch(self) -> Any:
        self.kept.append(float(len(self.kept)))
        return super().honest_gradient_for_next_batch()


async def build(kind: str, node: type[Honest]) -> ParameterServer:
    if kind == "plain":
        return ParameterServer([node(i) for i in range(3)], [Liar()], CoordinateWiseMedian())
    honest = await HonestNodeActor.spawn_many([Recipe(node, (i,)) for i in range(3)], backend=kind)
    liars = await ByzantineNodeActor.spawn_many([Recipe(Liar)], backend=kind)
    return ParameterServer(honest, liars, CoordinateWiseMedian())


def scheduler_tasks(ps: ParameterServer) -> int:
    place = getattr(ps.hon[0], "_place", None)
    if place is None:
        return 0
    client = place()[0].runtime.client
    return int(client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks)))


def resident() -> int:
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return 1024 * int(fields["RssAnon"].split()[0])


def census() -> dict[str, int]:
    """Count live objects by type, the least of some counts: a thread lets go of a call after its answer."""
    pause, counts = threading.Event(), []
    for _ in range(COUNTS):
        pause.wait(0.02)
        counts.append(count())
    return {name: min(one.get(name, 0) for one in counts) for name in counts[0]}


def count() -> dict[str, int]:
    """Count live objects by type; of containers also what is in them, since a float is nobody's object."""
    gc.collect()
    objects = gc.get_objects()
    found: Counter[str] = Counter()
    for one in objects:
        name = str(type(one))
        found[name] += 1
        if issubclass(type(one), CONTAINERS):
            found[f"in {name}"] += len(one)
    return dict(found)


def reading(ps: ParameterServer) -> dict[str, Any]:
    """Counts of what could be left behind; memory in bytes, of the whole process."""
    tasks = scheduler_tasks(ps)
    gc.collect()
    return {
        "traced": tracemalloc.get_traced_memory()[0],
        "resident": resident(),
        "descriptors": min(len(list(Path("/proc/self/fd").iterdir())) for _ in range(LOOKS)),
        "threads": threading.active_count(),
        "scheduler tasks": tasks,
        "loop tasks": len(asyncio.all_tasks()),
    }


async def watch_memory(ps: ParameterServer) -> dict[str, Any]:
    readings = []
    tracemalloc.start()
    for number in range(1, ROUNDS[-1] + 1):
        await ps.round()
        if number in ROUNDS:
            readings.append(reading(ps))
    kept = [report.round for report in ps.history]
    return {"readings": readings, "history": [kept[0], kept[-1], len(kept)]}


async def count_objects(ps: ParameterServer) -> dict[str, Any]:
    """Return by how much the numbers of live objects grew; a run of its own, as counting takes memory."""
    before = "{}"  # a text: from Python 3.14 on the garbage collector sees any dict, and would count this one
    for rounds in (SETTLED, COUNTED):
        first = before
        for _ in range(rounds):
            await ps.round()
        before = json.dumps(census())
    known = json.loads(first)
    grown = {name: count - known.get(name, 0) for name, count in json.loads(before).items()}
    return {"rounds": COUNTED, "grown": {name: more for name, more in grown.items() if more}}


async def main(kind: str, work: str) -> None:
    plant = work.removeprefix("count")
    history = SETTLED + COUNTED if plant == "-history" else 50
    with dask.config.set({"byzflow.round.history": history, **BY_THE_CLOCK}):
        ps = await build(kind, Hoarder if plant == "-node" else Honest)
    async with ps:
        told = await (watch_memory(ps) if work == "memory" else count_objects(ps))
    print(json.dumps(told))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
