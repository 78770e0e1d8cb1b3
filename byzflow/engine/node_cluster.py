"""Runners by name, and how a message finds one: a prototype of the reference."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from threading import Event
from typing import Any

from byzflow.engine.node_runner import NodeRunner
from byzflow.engine.transport.base import Transport

__all__ = ("NodeCluster",)

State = dict[str, Any]


class NodeCluster:
    """Runners by name.

    Parameters
    ----------
    transport : Transport, optional
        Carries the messages, also to runners of other programs that it knows; by default they go straight
        to the runner.
    backend : str or ActorBackend, default "process"
        Where the runners live.

    Examples
    --------
    >>> cluster = NodeCluster(backend="thread")
    >>> cluster.add_node("a", dict, lambda state, message: {**state, **message})
    >>> cluster.start_all()
    >>> cluster.send("a", {"x": 1})
    >>> cluster.state("a")
    {'x': 1}
    >>> cluster.stop_all()
    """

    def __init__(self, transport: Transport | None = None, *, backend: Any = "process") -> None:
        self._transport = transport
        self._backend = backend
        self._nodes: dict[str, NodeRunner] = {}

    def add_node(
        self,
        node_id: str,
        step_fn: Callable[[State], State],
        msg_handler: Callable[[State, Any], State],
        *,
        init_state: Mapping[str, Any] | None = None,
    ) -> None:
        """Add a runner, which starts with `start_all`.

        Raises
        ------
        ValueError
            If there is one of this name.
        """
        if node_id in self._nodes:
            raise ValueError(f"Each node needs a name of its own; {node_id!r} already exists. Take another.")
        runner = NodeRunner(step_fn, msg_handler, init_state=init_state, backend=self._backend)
        if self._transport is not None:
            self._transport.register(node_id, runner.send_message)
        self._nodes[node_id] = runner

    def start_all(self) -> None:
        """Start those that are not started."""
        for runner in self._nodes.values():
            runner.start()

    def stop_all(self) -> None:
        """Stop all runners, also when a step of one of them failed; then raise what it raised."""
        with ExitStack() as stack:
            for runner in self._nodes.values():
                stack.callback(runner.stop)

    def start_auto(self, node_id: str, interval_sec: float) -> None:
        """Let a runner step by itself."""
        self._runner(node_id).start_auto(interval_sec)

    def send(self, to_id: str, msg: Any) -> None:
        """Send a message to a runner.

        Raises
        ------
        KeyError
            If neither this cluster nor its transport knows it.
        """
        if self._transport is not None:
            self._transport.send(to_id, msg)
        else:
            self._runner(to_id).send_message(msg)

    def state(self, node_id: str) -> State:
        """Return the state of a runner."""
        return self._runner(node_id).state()

    def barrier(self, duration: float) -> None:
        """Give the runners time [seconds]."""
        Event().wait(duration)

    def _runner(self, node_id: str) -> NodeRunner:
        if node_id not in self._nodes:
            raise KeyError(f"A node must be one of {sorted(self._nodes)}; got {node_id!r}. Add it first.")
        return self._nodes[node_id]
