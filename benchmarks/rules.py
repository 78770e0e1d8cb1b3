"""Time every rule beside ByzPy, ByzFL and the floor of the machine, in one process.

    python -m benchmarks.rules [--set published|big|small|chain|all] [--repeats 7] [--only RULE] [--no-pool]
                               [--json FILE]

Lists of float32 tensors in, new tensors out; "pool" is byzflow again, as a graph on an ActorPool with one
thread worker for each core. The set "chain" times four pre-aggregators in front of MultiKrum, its floor being
MultiKrum alone. The contestants take turns, so that a change of the machine's speed hits all of them, and
medians are reported. Where the vectors are large, a turn is one call, and every contestant, the floor too,
finds them in memory, where a network or a gradient leaves them: before each turn something else fills the
caches. Where they are small, a turn is as many calls as take about 2 ms one after another, after one that is
not counted. Efficiency is floor / byzflow, where the floor is

    pass    one sum over X (column-wise rules)
    linear  one X @ X.T and one w @ X (linear rules)
    rows    one X @ X.T and one copy of X (rules that return rows)
    mix     one X @ X.T and one W @ X with a full (n, n) W (nearest-neighbour mixing)
    write   one new vector (rules that look at nothing)
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import platform
import time
from collections.abc import Callable
from pathlib import Path
from statistics import geometric_mean, median
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

import byzflow
from benchmarks import peers
from benchmarks.workloads import ARITHMETIC, BIG, CHAIN, HOME, PUBLISHED, SMALL, Workload
from byzflow.engine.graph.executor import OperatorExecutor
from byzflow.engine.graph.pool import ActorPoolConfig

SETS = {
    "published": PUBLISHED,
    "big": BIG,
    "small": SMALL,
    "chain": CHAIN,
    "all": (*PUBLISHED, *BIG, *SMALL, *CHAIN),
}
CONTESTANTS = ("byzflow", "pool", "byzpy", "byzfl", "floor")
_LARGE = 1 << 20
"""Of so many elements, no core keeps all vectors in a cache of its own."""

_OTHERS = 1 << 25
"""Numbers, 128 MiB of them, that fill all caches."""

KEYS = {"attacks": "honest_grads", "pre_aggregators": "vectors"}


def call_of(rule: Any, home: str, vectors: list[torch.Tensor]) -> Callable[[], Any]:
    """Return a call of a rule written for the reference's interface."""
    if home == "attacks":
        return lambda: rule.apply(honest_grads=vectors)
    if home == "pre_aggregators":
        return lambda: rule.pre_aggregate(vectors)
    return lambda: rule.aggregate(vectors)


def floor_of(kind: str, X: torch.Tensor) -> Callable[[], Any]:
    """Return the least work that a rule of this kind could do."""
    n = len(X)
    w, W = torch.full((n,), 1.0 / n), torch.full((n, n), 1.0 / n)
    return {
        "pass": lambda: X.sum(),
        "linear": lambda: (X @ X.T, w @ X),
        "rows": lambda: (X @ X.T, X.clone()),
        "mix": lambda: (X @ X.T, W @ X),
        "write": lambda: torch.ones(X.shape[1]),
    }[kind]


class Pool:
    """An event loop and a pool of thread workers that operators are run on, one after another."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.config = ActorPoolConfig(backend="thread", count=torch.get_num_threads())
        self.executor: OperatorExecutor | None = None

    def call_of(self, rule: Any, home: str, vectors: list[torch.Tensor]) -> Callable[[], Any]:
        """Return a call of a rule as a graph on the pool, which starts now."""
        self.close()
        key = KEYS.get(home, "gradients")
        executor = OperatorExecutor(rule, input_keys=[key], pool_config=self.config)
        self.executor = self.loop.run_until_complete(executor.__aenter__())
        return lambda: self.loop.run_until_complete(executor.run({key: vectors}))

    def close(self) -> None:
        """End the pool that is running."""
        if self.executor is not None:
            self.loop.run_until_complete(self.executor.__aexit__(None, None, None))
            self.executor = None


def contest(work: Workload, byzfl: Any, pool: Pool | None) -> dict[str, Callable[[], Any]]:
    """Return the calls that take turns on one workload."""
    generator = torch.Generator().manual_seed(0)
    X = torch.randn(work.n, work.d, generator=generator)
    vectors = [row.clone() for row in X]
    home = HOME[work.rule]
    calls = {"byzflow": call_of(work.ours(), home, vectors)}
    if work.rule == "Pipeline":
        return {**calls, "floor": call_of(work.ours().aggregator, home, vectors)}
    calls |= {"byzpy": call_of(work.byzpy(), home, vectors), "floor": floor_of(work.floor, X)}
    if pool is not None:
        calls["pool"] = pool.call_of(work.ours(), home, vectors)
    if work.byzfl:
        name, arguments = work.byzfl
        rule = getattr(byzfl, name)(**arguments)
        calls["byzfl"] = lambda: rule(vectors)
    return calls


def clock(call: Callable[[], Any]) -> float:
    """Return the seconds of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def measure(
    calls: dict[str, Callable[[], Any]], repeats: int, *, cold: bool = False, patience: float = 30.0
) -> dict[str, float]:
    """Return the median seconds of each call, in turns; a call that raises or is too slow is left out."""
    times: dict[str, list[float]] = {}
    for name, call in calls.items():
        try:
            first = clock(call)
        except (RuntimeError, ValueError, TypeError, IndexError, MemoryError) as error:
            print(f"  {name}: {type(error).__name__}: {error}")
            continue
        times[name] = [first] if first > patience else []
    inner, others = {}, torch.zeros(_OTHERS if cold else 0)
    for name in (name for name, t in times.items() if not t):
        calls[name]()  # how long a call takes after another's says little of how long many take
        inner[name] = 1 if cold else max(1, min(200, int(2e-3 / max(clock(calls[name]), 1e-7))))
    for _ in range(repeats):
        for name, count in inner.items():
            if cold:
                others.add_(1)
            elif count > 1:
                calls[name]()
            start = time.perf_counter()
            for _ in range(count):
                calls[name]()
            times[name].append((time.perf_counter() - start) / count)
    return {name: median(values) for name, values in times.items()}


def run(works: tuple[Workload, ...], repeats: int, pool: Pool | None) -> list[dict[str, Any]]:
    """Measure all workloads."""
    _, byzfl = peers.load()
    rows = []
    for work in works:
        seconds = measure(contest(work, byzfl, pool), repeats, cold=work.n * work.d >= _LARGE)
        peer = min((seconds[name] for name in ("byzpy", "byzfl") if name in seconds), default=math.nan)
        rows.append(
            {
                "rule": work.rule,
                "n": work.n,
                "d": work.d,
                "seconds": seconds,
                "speedup": peer / seconds["byzflow"],
                "efficiency": seconds["floor"] / seconds["byzflow"],
                "floor": work.floor,
            }
        )
        print(f"{work.rule} {work.n} x {work.d}: {rows[-1]['speedup']:.1f}x", flush=True)
    return rows


def show(rows: list[dict[str, Any]]) -> None:
    """Print the table and the means."""
    table = Table(title=f"milliseconds, {torch.get_num_threads()} threads, {platform.machine()}, float32")
    for heading in ("rule", "n x d", *CONTESTANTS, "speed-up", "efficiency", "floor"):
        table.add_column(heading, justify="left" if heading == "rule" else "right")
    for row in rows:
        times = [f"{row['seconds'][c] * 1e3:.3f}" if c in row["seconds"] else "-" for c in CONTESTANTS]
        table.add_row(
            row["rule"],
            f"{row['n']} x {row['d']}",
            *times,
            f"{row['speedup']:.1f}",
            f"{row['efficiency']:.2f}",
            row["floor"],
        )
    Console(width=160).print(table)
    groups = {"all": rows, "arithmetic-bound": [row for row in rows if row["rule"] in ARITHMETIC]}
    for name, group in groups.items():
        ratios = [row["speedup"] for row in group if not math.isnan(row["speedup"])]
        if ratios:
            print(f"geometric mean of speed-ups, {name}: {geometric_mean(ratios):.2f} over {len(ratios)}")
    slower = [f"{row['rule']} {row['n']} x {row['d']}" for row in rows if row["speedup"] < 1]
    print(f"slower than a peer: {', '.join(slower) or 'none'}")


def main() -> None:
    """Parse the command line, measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--set", choices=SETS, default="all")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--only", default="")
    parser.add_argument("--no-pool", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    works = tuple(work for work in SETS[options.set] if options.only.lower() in work.rule.lower())
    pool = None if options.no_pool else Pool()
    rows = run(works, options.repeats, pool)
    if pool is not None:
        pool.close()
    show(rows)
    if options.json:
        report = {
            "byzflow": byzflow.__version__,
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
        }
        options.json.write_text(json.dumps({**report, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
