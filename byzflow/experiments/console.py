"""What a person sees of an experiment: progress while it runs, then a table and where the results are."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from byzflow.experiments.cluster import connected, spec
from byzflow.experiments.config import Experiment, Run
from byzflow.experiments.run import execute
from byzflow.experiments.store import Measurement, RunResult, new_folder, save

__all__ = ("run_and_report",)


def run_and_report(experiment: Experiment, results: Path) -> Path:
    """Run every cell of an experiment on its cluster, print the comparison, and return the results' folder.

    Parameters
    ----------
    experiment : Experiment
        What to run, and where.
    results : Path
        Folder under which the experiment gets a folder of its own.

    Raises
    ------
    ConfigError
        If there can be no such folder, before anything is run.
    """
    console = Console()
    folder = new_folder(results, experiment.name)
    try:
        outcomes = asyncio.run(_run_all(experiment, console))
    except BaseException:
        folder.rmdir()
        raise
    save(folder, experiment, outcomes)
    console.print(_table(experiment.cells, outcomes))
    for cell, result in outcomes.items():
        for remark in _remarks(result):
            console.print(f"{cell}: {remark}", markup=False, highlight=False)
    console.print(f"Results written to {folder}", soft_wrap=True, highlight=False)
    return folder


async def _run_all(experiment: Experiment, console: Console) -> dict[str, RunResult]:
    outcomes: dict[str, RunResult] = {}
    async with connected(experiment.cluster) as runtime:
        workers = len(await runtime.workers())
        link = runtime.dashboard_link or "none"
        some = "1 worker" if workers == 1 else f"{workers} workers"
        console.print(f"Dask cluster with {some}, dashboard: {link}", soft_wrap=True, highlight=False)
        with _progress(console) as progress:
            for cell, run in experiment.cells.items():
                follow = _follower(progress, cell, run.training.rounds)
                outcomes[cell] = await execute(run, spec(experiment.cluster), on_round=follow)
    return outcomes


def _progress(console: Console) -> Progress:
    columns = (TextColumn("{task.description:7}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, TextColumn("{task.fields[accuracy]}"), console=console)


def _follower(progress: Progress, cell: str, rounds: int) -> Callable[[int, Measurement | None], None]:
    bar = progress.add_task(cell, total=rounds, accuracy="")

    def follow(round: int, measurement: Measurement | None) -> None:
        progress.update(bar, completed=round)
        if measurement is not None:
            progress.update(bar, accuracy=f"accuracy {measurement.accuracy:.1%}")

    return follow


def _table(runs: Mapping[str, Run], outcomes: Mapping[str, RunResult]) -> Table:
    legend = "nodes: honest + Byzantine; accuracy: on the test rows, after the last round"
    table = Table("run", "nodes", "attack", "rule", box=box.SIMPLE_HEAD, pad_edge=False)
    table.caption, table.caption_justify = legend, "left"
    table.add_column("accuracy", justify="right", style="bold")
    table.add_column("seconds", justify="right")
    for cell, run in runs.items():
        nodes = f"{run.nodes.honest} + {run.nodes.byzantine}"
        attack = "none" if run.attack is None else type(run.attack).__name__.removesuffix("Attack")
        rules = "\n".join(type(rule).__name__ for rule in (*run.pre_aggregators, run.aggregator))
        result = outcomes[cell]
        table.add_row(cell, nodes, attack, rules, f"{result.accuracy:.1%}", f"{result.seconds:.1f}")
    return table


def _remarks(result: RunResult) -> Iterator[str]:
    if result.excluded:
        nodes = ", ".join(f"{node} ({n} round{'s' * (n != 1)})" for node, n in result.excluded.items())
        yield f"left out because of what they sent: {nodes}"
    if result.stopped:
        yield f"ended early, last tested after round {result.history[-1].round}: {result.stopped}"
