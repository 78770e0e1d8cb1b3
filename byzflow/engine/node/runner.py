"""A state in a worker and two functions that change it, a step and what a message does, for plain code.

Prototypes of the reference; nodes that train are in `byzflow.engine.node.actors`, nodes that talk to each
other in `byzflow.engine.node.decentralized`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from threading import Event
from types import TracebackType
from typing import Any, Self

from byzflow.engine.actor.base import ActorBackend
from byzflow.engine.actor.factory import resolve_backend
from byzflow.engine.node.sync import run_sync

__all__ = ("NodeCluster", "NodeRunner")

State = dict[str, Any]


class _Program:
    """What lives in the worker; its calls run one after another."""

    def __init__(self, step_fn: Any, msg_handler: Any, state: State) -> None:
        self._step, self._handle, self._state = step_fn, msg_handler, state

    def step(self) -> None:
        self._state = self._step(self._state)

    def receive(self, message: Any) -> None:
        self._state = self._handle(self._state, message)

    def state(self) -> State:
        return self._state


class NodeRunner:
    """A state in a worker, and the two functions that change it.

    Parameters
    ----------
    step_fn : callable
        Takes the state and returns the next one.
    msg_handler : callable
        Takes the state and a message, and returns the next state.
    init_state : mapping, optional
        The state at the start; empty by default.
    backend : str or ActorBackend, default "process"
        Where it lives.

    Examples
    --------
    >>> def step(state):
    ...     return {**state, "n": state.get("n", 0) + 1}
    >>> def hear(state, message):
    ...     return {**state, "heard": message}
    >>> with NodeRunner(step, hear, backend="thread") as runner:
    ...     runner.step()
    ...     runner.send_message("hello")
    ...     runner.state()
    {'n': 1, 'heard': 'hello'}
    """

    def __init__(
        self,
        step_fn: Callable[[State], State],
        msg_handler: Callable[[State, Any], State],
        *,
        init_state: Mapping[str, Any] | None = None,
        backend: Any = "process",
    ) -> None:
        self._recipe = (step_fn, msg_handler, dict(init_state or {}))
        self._spec = backend
        self._place: ActorBackend | None = None
        self._halt = Event()
        self._auto: Future[None] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Put the state into a worker; again is the same as once."""
        if self._place is None:
            place = resolve_backend(self._spec)
            run_sync(place.construct(_Program, args=self._recipe))
            self._place = place

    def stop(self) -> None:
        """End what runs by itself and forget the state; again is the same as once."""
        place, self._place = self._place, None
        try:
            self.stop_auto()
        finally:
            if place is not None:
                run_sync(place.close())

    def step(self) -> None:
        """Take one step; raise what it raises."""
        self._call("step")

    def send_message(self, msg: Any) -> None:
        """Hand a message to the handler, after what was asked before; raise what it raises."""
        self._call("receive", msg)

    def state(self) -> State:
        """Return the state, or a copy of it from another process."""
        state: State = self._call("state")
        return state

    def pump_once(self) -> None:
        """Return when everything that was asked so far is done."""
        self._call("state")

    def start_auto(self, interval_sec: float) -> None:
        """Step by itself, with pauses of `interval_sec` [seconds], until `stop_auto`.

        Raises
        ------
        RuntimeError
            If it does so already, or is not started.
        """
        if self._auto is not None:
            raise RuntimeError("start_auto() needs a runner that stands; it steps already. Call stop_auto().")
        self._call("state")
        self._halt.clear()
        thread = ThreadPoolExecutor(1, "byzflow-runner")
        self._auto = thread.submit(self._walk, interval_sec)
        thread.shutdown(wait=False)

    def start_async(self, interval_sec: float = 0.01) -> None:
        """Step by itself; see `start_auto`."""
        self.start_auto(interval_sec)

    def stop_auto(self) -> None:
        """Let the step under way end, and take no more; raise what ended the walk, if a step failed."""
        auto, self._auto = self._auto, None
        if auto is not None:
            self._halt.set()
            auto.result()

    def _walk(self, pause: float) -> None:
        while not self._halt.wait(pause):
            if (place := self._place) is not None:
                run_sync(place.call("step"))

    def _call(self, method: str, *args: Any) -> Any:
        if self._place is None:
            raise RuntimeError(f"{method}() needs a runner that is started; this one is not. Call start().")
        return run_sync(self._place.call(method, *args))


class NodeCluster:
    """Runners by name.

    Parameters
    ----------
    transport : str or ActorBackend, optional
        The backend of all runners; ``"process"`` by default.

    Examples
    --------
    >>> cluster = NodeCluster("thread")
    >>> cluster.add_node("a", dict, lambda state, message: {**state, **message})
    >>> cluster.start_all()
    >>> cluster.send("a", {"x": 1})
    >>> cluster.state("a")
    {'x': 1}
    >>> cluster.stop_all()
    """

    def __init__(self, transport: Any = None) -> None:
        self._backend = "process" if transport is None else transport
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
        self._nodes[node_id] = NodeRunner(step_fn, msg_handler, init_state=init_state, backend=self._backend)

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
        """Send a message to a runner."""
        self._runner(to_id).send_message(msg)

    def state(self, node_id: str) -> State:
        """Return the state of a runner."""
        return self._runner(node_id).state()

    def barrier(self, duration: float) -> None:
        """Give the runners time [seconds]."""
        Event().wait(duration)

    def _runner(self, node_id: str) -> NodeRunner:
        if node_id not in self._nodes:
            raise LookupError(f"A node must be one of {sorted(self._nodes)}; got {node_id!r}. Add it first.")
        return self._nodes[node_id]
