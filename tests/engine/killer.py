"""Kills the worker processes of an embedded cluster at moments that only a seed knows."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
from typing import Any


class Killer:
    """Before some rounds it sets a timer; when that ends, one of the running workers is killed.

    A worker that is still starting is spared: its nanny gives up if that one dies.
    """

    def __init__(self, cluster: Any, seed: int, rounds: int, kills: int) -> None:
        self.cluster, self.stream = cluster, random.Random(seed)
        self.rounds = sorted(self.stream.sample(range(rounds - 2), kills))
        self.killed: list[int] = []
        self.timers: list[threading.Timer] = []

    def before(self, round: int) -> None:
        """Set the timer of a round that has one."""
        if round in self.rounds:
            longest = self.stream.choice([0.02, 0.3])  # seconds: within a round, or while nodes come back
            delay, choice = self.stream.uniform(0, longest), self.stream.random()
            self.timers.append(threading.Timer(delay, self._kill, (choice,)))
            self.timers[-1].start()

    def finish(self) -> None:
        """Wait for the last timer."""
        for timer in self.timers:
            timer.join()

    def _kill(self, choice: float) -> None:
        nannies = self.cluster.workers.values()
        running = sorted(n.pid for n in nannies if n.pid and n.status.name == "running")
        if running:
            self.killed.append(running[int(choice * len(running))])
            with contextlib.suppress(ProcessLookupError):  # gone since its nanny has looked
                os.kill(self.killed[-1], signal.SIGKILL)
