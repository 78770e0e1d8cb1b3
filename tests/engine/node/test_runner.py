"""Runners step, hear and answer in order, by themselves if asked, and end when told."""

from __future__ import annotations

import os
import threading
import time
from typing import Any

import pytest

from byzflow.engine import NodeCluster, NodeRunner

BROKE = threading.Event()


def step(state: dict[str, Any]) -> dict[str, Any]:
    return {**state, "n": state.get("n", 0) + 1}


def hear(state: dict[str, Any], message: Any) -> dict[str, Any]:
    return {**state, "heard": [*state.get("heard", []), message]}


def fail(state: dict[str, Any]) -> dict[str, Any]:
    BROKE.set()
    raise ZeroDivisionError("in a step")


def reaches(runner: NodeRunner, steps: int) -> bool:
    end = time.monotonic() + 10
    while runner.state().get("n", 0) < steps and time.monotonic() < end:
        runner.pump_once()
    return bool(runner.state()["n"] >= steps)


def runners() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("byzflow-runner")}


def test_steps_and_messages_change_the_state_in_order() -> None:
    with NodeRunner(step, hear, init_state={"n": 5}, backend="thread") as runner:
        assert runner.state() == {"n": 5}
        runner.step()
        for i in range(3):
            runner.send_message(i)
        assert runner.state() == {"n": 6, "heard": [0, 1, 2]}


@pytest.mark.parametrize("way", ["start_auto", "start_async"])
def test_a_runner_steps_by_itself_until_it_is_told_to_stop(way: str) -> None:
    with NodeRunner(step, hear, backend="thread") as runner:
        getattr(runner, way)(0.001)
        assert reaches(runner, 3)
        with pytest.raises(RuntimeError, match="steps already"):
            runner.start_auto(0.001)
        runner.stop_auto()
        stopped = runner.state()
        runner.pump_once()
        assert runner.state() == stopped
        runner.start_auto(0.001)
        assert reaches(runner, stopped["n"] + 1)
    assert not runners()


def test_what_a_step_raises_reaches_the_caller() -> None:
    with NodeRunner(fail, hear, backend="thread") as runner:
        with pytest.raises(ZeroDivisionError):
            runner.step()
        BROKE.clear()
        runner.start_auto(0.0)
        assert BROKE.wait(30)
        with pytest.raises(ZeroDivisionError):
            runner.stop_auto()
        assert runner.state() == {}


@pytest.mark.parametrize("call", [NodeRunner.step, NodeRunner.state, lambda one: one.start_auto(1)])
def test_a_runner_that_is_not_started_says_so(call: Any) -> None:
    runner = NodeRunner(step, hear, backend="thread")
    with pytest.raises(RuntimeError, match=r"Call start\(\)"):
        call(runner)
    runner.start()
    runner.start()
    runner.stop()
    runner.stop()
    with pytest.raises(RuntimeError, match=r"Call start\(\)"):
        call(runner)
    assert not runners()


def test_the_nodes_of_a_cluster_have_states_of_their_own() -> None:
    cluster = NodeCluster("thread")
    cluster.add_node("a", step, hear)
    cluster.add_node("b", step, hear, init_state={"n": 3})
    with pytest.raises(ValueError, match="already exists"):
        cluster.add_node("a", step, hear)
    cluster.start_all()
    cluster.start_auto("a", 0.001)
    cluster.send("b", 7)
    while cluster.state("a").get("n", 0) < 2:
        cluster.barrier(0.001)
    assert cluster.state("b") == {"n": 3, "heard": [7]}
    with pytest.raises(LookupError, match="one of"):
        cluster.send("c", 1)
    cluster.stop_all()
    assert not runners()


def test_a_failed_node_does_not_keep_the_others_of_a_cluster_from_stopping() -> None:
    cluster = NodeCluster("thread")
    cluster.add_node("good", step, hear)
    cluster.add_node("bad", fail, hear)
    cluster.add_node("late", step, hear)
    cluster.start_all()
    BROKE.clear()
    for name in ("good", "bad", "late"):
        cluster.start_auto(name, 0.0)
    assert BROKE.wait(30)
    with pytest.raises(ZeroDivisionError):
        cluster.stop_all()
    for name in ("good", "late"):
        with pytest.raises(RuntimeError, match=r"Call start\(\)"):
            cluster.state(name)
    assert not runners()


@pytest.mark.processes
def test_by_default_a_runner_lives_in_another_process() -> None:
    with NodeRunner(lambda state: {"pid": os.getpid()}, hear) as runner:
        runner.step()
        assert runner.state()["pid"] != os.getpid()
