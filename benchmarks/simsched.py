"""Scheduler time of a round on a thousand workers, without the workers.

    python -m benchmarks.simsched [--workers 1000] [--nodes 1000] [--d 10000000] [--rounds 5] [--json FILE]

A real `distributed.Scheduler` gets workers and a client that only take down what they are sent, and every
task that it hands out is reported as finished. A round submits the graph that a pool on that cluster gets
for MultiKrum on the nodes' vectors, which lie in column shards on the workers: measure, sum, solve, apply;
then the client lets go of the answers. What is timed is CPU of the scheduler, with the encoding of each
message and without sockets; a real one sends messages in batches, so this is a little more than it needs.
The steps of the nodes (gradients, attack, update) are calls to host actors, of which the scheduler sees
nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import logging
import math
import time
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any
from uuid import uuid4

import dask
from dask._expr import HLGExpr
from dask.task_spec import TaskRef
from distributed import Scheduler
from distributed.metrics import time as now
from distributed.protocol.core import dumps, loads
from distributed.protocol.serialize import Serialized, serialize, to_serialize
from distributed.scheduler import ClientState

from byzflow.aggregators.geometric_wise import MultiKrum
from byzflow.engine.graph.compile import Compiled, compile_graph
from byzflow.engine.graph.layers import Sharded
from byzflow.engine.graph.ops import make_single_operator_graph
from byzflow.engine.graph.submit import shard_count
from byzflow.engine.graph.waves import waves
from byzflow.kernels.blocks import shards, widest

CLIENT = "client"
METRICS = {
    "bandwidth": {"total": 1e8, "workers": {}, "types": {}},
    "digests_total_since_heartbeat": {},
    "memory": 0,
    "managed_bytes": 0,
    "spilled_bytes": {"memory": 0, "disk": 0},
}


class Stream:
    """What a scheduler takes for the connection to a worker or client: encodes, and hands nothing on."""

    def __init__(self, address: str, inbox: deque[tuple[str, dict[str, Any]]]) -> None:
        self._address, self._inbox = address, inbox

    def send(self, *messages: dict[str, Any]) -> None:
        dumps(messages)
        self._inbox.extend((self._address, message) for message in messages)

    def closed(self) -> bool:
        return False

    async def write(self, message: Any) -> None:
        """Take the scheduler's answer to a worker that comes."""

    async def close(self) -> None:
        """Nothing is open."""

    def abort(self) -> None:
        """Nothing is open."""


class Simulation:
    """A scheduler that believes in its workers."""

    def __init__(self, workers: int) -> None:
        self.addresses = [f"tcp://10.{i >> 16}.{i >> 8 & 255}.{i & 255}:1" for i in range(workers)]
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.tasks = 0
        self._inbox: deque[tuple[str, dict[str, Any]]] = deque()
        self._type = b"".join(bytes(frame) for frame in dumps(object))

    async def start(self) -> None:
        """Start the scheduler and bring in the workers and the client."""
        self.scheduler = await Scheduler(dashboard=False, host="127.0.0.1", port=0, worker_ttl=None)
        self.scheduler.handle_worker = self._leave_alone
        for address in self.addresses:
            await self.scheduler.add_worker(
                Stream(address, self._inbox), address=address, name=address, resolve_address=False,
                status="running", server_id=address, nthreads=1, now=now(), resources={}, memory_limit=2**34,
                metrics=METRICS, services={}, local_directory="", versions={}, nanny="", extra={},
                stimulus_id="simulated",
            )  # fmt: skip
            self.scheduler.stream_comms[address] = Stream(address, self._inbox)
        self.scheduler.clients[CLIENT] = ClientState(CLIENT, versions={})
        self.scheduler.client_comms[CLIENT] = Stream(CLIENT, self._inbox)

    async def close(self) -> None:
        """End the scheduler; its workers need not be told."""
        self.scheduler.stream_comms.clear()
        self.scheduler.client_comms.clear()
        await self.scheduler.close()

    async def round(self, nodes: int, d: int) -> None:
        """Run one round's graph to its end."""
        token, workers = uuid4().hex, self.addresses
        spans = shards(d, shard_count(nodes * d, len(workers), nodes), widest(d))
        places = {(f"rows-{token}", i): [workers[i % len(workers)]] for i in range(len(spans))}
        sizes = {key: nodes * span.width * 4 for key, span in zip(places, spans, strict=True)}
        with self._clock("compile and encode (client)"):
            compiled = _compiled(nodes, tuple(map(TaskRef, places)), token, workers)
            submitted = [
                (Serialized(*serialize(to_serialize(HLGExpr(wave.graph)), on_error="raise")), set(wave.keys))
                for wave in waves(compiled.graph, compiled.keys)
            ]
        with self._clock("place"):
            self.scheduler.update_data(who_has=places, nbytes=sizes, client=CLIENT)
        with self._clock("submit"):
            for graph, keys in submitted:
                await self.scheduler.update_graph(
                    client=CLIENT, expr_ser=graph, keys=keys, span_metadata={"collections": []},
                    internal_priority=None, submitting_task=None, annotations={},
                )  # fmt: skip
        self._work()
        missing = [key for key in compiled.keys if self.scheduler.tasks[key].state != "memory"]
        assert not missing, f"{len(missing)} answers were not computed"
        with self._clock("release"):
            held = {key for _, keys in submitted for key in keys}
            self.scheduler.client_releases_keys(keys=[*held, *places], client=CLIENT)
        assert not self.scheduler.tasks
        self._inbox.clear()

    def _work(self) -> None:
        """Report every task as finished, until no more are handed out."""
        while self._inbox:
            address, message = self._inbox.popleft()
            if message["op"] != "compute-task":
                continue
            self.tasks += 1
            frames = dumps({"stimulus_id": "simulated", **self._finished(message)})
            with self._clock("schedule"):
                report = loads(frames)
                self.scheduler.handle_task_finished(worker=address, **report)

    def _finished(self, message: dict[str, Any]) -> dict[str, Any]:
        end = now()
        return {
            "key": message["key"],
            "run_id": message["run_id"],
            "status": "OK",
            "nbytes": 8 * 10**6,
            "type": self._type,
            "typename": "Shard",
            "metadata": {},
            "thread": 1,
            "startstops": ({"action": "compute", "start": end - 0.01, "stop": end},),
        }

    async def _leave_alone(self, comm: Any, worker: str) -> None:
        """Stand in for the loop that reads what a worker sends."""

    @contextmanager
    def _clock(self, phase: str) -> Iterator[None]:
        begin = time.process_time()
        yield
        self.seconds[phase] += time.process_time() - begin


def _compiled(nodes: int, rows: tuple[TaskRef, ...], token: str, workers: list[str]) -> Compiled:
    rule = MultiKrum(f=nodes // 10, q=nodes // 10)
    graph = make_single_operator_graph(node_name="agg", operator=rule, input_keys=[rule.input_key])
    return compile_graph(graph, {rule.input_key: Sharded(rows)}, token=token, workers=workers)


async def simulate(workers: int, nodes: int, d: int, rounds: int) -> dict[str, Any]:
    """Return tasks per round, and the median CPU seconds of a round by phase."""
    simulation = Simulation(workers)
    begin = time.process_time()
    await simulation.start()
    start = time.process_time() - begin
    spent, tasks = [], []
    for _ in range(rounds + 1):  # the first is to warm up
        simulation.seconds.clear()
        simulation.tasks = 0
        await simulation.round(nodes, d)
        spent.append(dict(simulation.seconds))
        tasks.append(simulation.tasks)
    await simulation.close()
    phases = {name: median(one[name] for one in spent[1:]) for name in spent[0]}
    total = math.fsum(seconds for name, seconds in phases.items() if "client" not in name)
    return {
        "workers": workers,
        "nodes": nodes,
        "d": d,
        "tasks": tasks[-1],
        "start": start,
        "phases": phases,
        "scheduler": total,
        "per_task": total / tasks[-1],
    }


def main() -> None:
    """Parse the command line, simulate, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--d", type=int, default=10**7)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    logging.getLogger("distributed").setLevel(logging.WARNING)
    gc.set_threshold(*(3 * threshold for threshold in gc.get_threshold()))  # as `dask scheduler` does
    with dask.config.set({"distributed.scheduler.worker-ttl": None}):
        row = asyncio.run(simulate(options.workers, options.nodes, options.d, options.rounds))
    phases = ", ".join(f"{name} {seconds * 1e3:.1f}" for name, seconds in row["phases"].items())
    print(
        f"{row['workers']} workers, {row['nodes']} nodes, d={row['d']}: {row['tasks']} tasks a round, "
        f"{row['scheduler'] * 1e3:.1f} ms of scheduler CPU a round, {row['per_task'] * 1e6:.0f} µs a task\n"
        f"  [ms]: {phases}; workers added in {row['start']:.1f} s"
    )
    if options.json:
        options.json.write_text(json.dumps(row, indent=1))


if __name__ == "__main__":
    main()
