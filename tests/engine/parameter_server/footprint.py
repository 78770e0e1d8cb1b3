"""What rounds leave behind, measured in a process of their own: a script for `test_leaks`."""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import threading
import tracemalloc
from pathlib import Path
from typing import Any

import dask

from byzflow.aggregators.coordinate_wise import CoordinateWiseMedian
from byzflow.engine.node.actors import ByzantineNodeActor, HonestNodeActor, Recipe
from byzflow.engine.parameter_server import ParameterServer
from tests.engine.parameter_server.nodes import Honest, Liar

LOOKS = 1000  # some 20 ms: Dask's monitor opens files of /proc for a moment, in threads of its own
ROUNDS = (100, 550, 1000)  # after which the readings are taken

# What Dask logs by the clock, not by the round: profiles of its threads and the load of the machine.
BY_THE_CLOCK = {"distributed.worker.profile.enabled": False, "distributed.admin.system-monitor.log-length": 1}


async def build(kind: str) -> ParameterServer:
    if kind == "plain":
        return ParameterServer([Honest(i) for i in range(3)], [Liar()], CoordinateWiseMedian())
    honest = await HonestNodeActor.spawn_many([Recipe(Honest, (i,)) for i in range(3)], backend=kind)
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


async def main(kind: str) -> None:
    with dask.config.set({"byzflow.round.history": 50, **BY_THE_CLOCK}):
        ps = await build(kind)
    readings = []
    async with ps:
        tracemalloc.start()
        for number in range(1, ROUNDS[-1] + 1):
            await ps.round()
            if number in ROUNDS:
                readings.append(reading(ps))
        kept = [report.round for report in ps.history]
    print(json.dumps({"readings": readings, "history": [kept[0], kept[-1], len(kept)]}))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
