"""The loop around a server's rounds: count, evaluate now and then, tell whoever watches."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Protocol

from byzflow.operators.checks import acts, nonnegative, positive

__all__ = ("Server", "train", "train_with_progress")


class Server(Protocol):
    """Whatever has rounds: a parameter server, a peer-to-peer training."""

    async def round(self) -> Any:
        """Run one round."""


async def train(
    server: Server,
    rounds: int,
    evaluate: Callable[[int], Any] | None = None,
    *,
    every: int = 1,
    on_round: Callable[[int, Any], None] | None = None,
) -> list[dict[str, Any]]:
    """Run rounds and evaluate after every few of them, and after the last.

    Parameters
    ----------
    server : object
        Has an ``async round()``.
    rounds : int
        How many to run.
    evaluate : callable, optional
        Called with the number of the round, counted from 1; may be a coroutine function.
    every : int, default 1
        Rounds from one evaluation to the next.
    on_round : callable, optional
        Called after each round with its number and the evaluation's result, None where there was none.

    Returns
    -------
    list of dict
        ``{"round": r, "metrics": result}`` for each evaluation.

    Examples
    --------
    >>> import asyncio
    >>> class Idle:
    ...     async def round(self):
    ...         pass
    >>> asyncio.run(train(Idle(), 5, lambda r: r * r, every=2))
    [{'round': 2, 'metrics': 4}, {'round': 4, 'metrics': 16}, {'round': 5, 'metrics': 25}]
    """
    _check(server, rounds, "every", every)
    return await _loop(server, rounds, evaluate, lambda r: r % every == 0 or r == rounds, on_round)


async def train_with_progress(
    ps: Server, rounds: int, eval_callback: Callable[[int], Any] | None = None, eval_interval: int = 1
) -> list[dict[str, Any]]:
    """Run rounds under a progress bar, evaluating when the round's number is a multiple of `eval_interval`.

    Parameters
    ----------
    ps : object
        Has an ``async round()``.
    rounds : int
        How many to run.
    eval_callback : callable, optional
        ``async (round) -> metrics``, with the round counted from 1; a dict is shown beside the bar.
    eval_interval : int, default 1
        Rounds from one evaluation to the next.

    Returns
    -------
    list of dict
        ``{"round": r, "metrics": result}`` for each evaluation.
    """
    _check(ps, rounds, "eval_interval", eval_interval)
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TextColumn("{task.fields[metrics]}")) as progress:
        bar = progress.add_task("rounds", total=rounds, metrics="")

        def moved(r: int, metrics: Any) -> None:
            progress.update(bar, completed=r)
            if isinstance(metrics, dict):
                shown = (f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in metrics.items())
                progress.update(bar, metrics=", ".join(shown))

        return await _loop(ps, rounds, eval_callback, lambda r: r % eval_interval == 0, moved)


async def _loop(
    server: Server,
    rounds: int,
    evaluate: Callable[[int], Any] | None,
    due: Callable[[int], bool],
    on_round: Callable[[int, Any], None] | None,
) -> list[dict[str, Any]]:
    history: list[dict[str, Any]] = []
    for r in range(1, rounds + 1):
        await server.round()
        metrics = None
        if evaluate is not None and due(r):
            metrics = evaluate(r)
            metrics = await metrics if inspect.isawaitable(metrics) else metrics
            history.append({"round": r, "metrics": metrics})
        if on_round is not None:
            on_round(r, metrics)
    return history


def _check(server: Any, rounds: int, name: str, every: int) -> None:
    acts("ps", server, "round", "Pass a ParameterServer or PeerToPeer.")
    nonnegative("rounds", rounds)
    positive(name, every)
