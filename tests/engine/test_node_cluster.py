"""Runners by name: each has its state, messages find it over any transport, and all stop together."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import Any

import pytest

from byzflow.engine import NodeCluster
from byzflow.engine.transport.local import LocalTransport
from byzflow.engine.transport.tcp import TcpTransport
from tests.engine.test_node_runner import BROKE, fail, hear, runners, step


def test_the_nodes_of_a_cluster_have_states_of_their_own() -> None:
    cluster = NodeCluster(backend="thread")
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
    with pytest.raises(KeyError, match="one of"):
        cluster.send("c", 1)
    cluster.stop_all()
    assert not runners()


def test_a_failed_node_does_not_keep_the_others_of_a_cluster_from_stopping() -> None:
    cluster = NodeCluster(backend="thread")
    cluster.add_node("good", step, hear)
    cluster.add_node("bad", fail, hear)
    cluster.add_node("late", step, hear)
    cluster.start_all()
    BROKE.clear()
    for name in ("good", "bad", "late"):
        cluster.start_auto(name, 0.0)
    assert BROKE.wait(10)
    with pytest.raises(ZeroDivisionError):
        cluster.stop_all()
    for name in ("good", "late"):
        with pytest.raises(RuntimeError, match=r"Call start\(\)"):
            cluster.state(name)
    assert not runners()


@pytest.mark.parametrize("make", [LocalTransport, TcpTransport])
def test_messages_of_a_cluster_go_over_its_transport(make: Any) -> None:
    transport = make()
    cluster = NodeCluster(transport, backend="thread")
    cluster.add_node("a", step, hear)
    heard = threading.Event()
    transport.register("outside", lambda payload: heard.set())
    cluster.start_all()
    cluster.send("a", 7)
    cluster.send("outside", 1)
    assert heard.wait(10)
    while not (state := cluster.state("a")):
        cluster.barrier(0.001)
    assert state == {"heard": [7]}
    with pytest.raises(KeyError, match="Unknown node_id 'z'"):
        cluster.send("z", 1)
    cluster.stop_all()
    if make is TcpTransport:
        transport.close()


OTHER = """
import sys, threading
from byzflow.engine.node_cluster import NodeCluster
from byzflow.engine.transport.tcp import TcpTransport

done = threading.Event()
transport = TcpTransport({"here": ("127.0.0.1", int(sys.argv[1]))})
cluster = NodeCluster(transport, backend="thread")

def hear(state, message):
    cluster.send("here", 2 * message)
    done.set()
    return {**state, "heard": message}

cluster.add_node("there", lambda state: state, hear)
cluster.start_all()
cluster.send("here", transport.addresses["there"])
assert done.wait(30)
cluster.stop_all()  # the transport is left open: the program ends all the same
"""


@pytest.mark.processes
def test_clusters_of_two_processes_reach_each_others_nodes_over_tcp() -> None:
    with TcpTransport() as transport:
        cluster = NodeCluster(transport, backend="thread")
        cluster.add_node("here", step, hear)
        cluster.start_all()
        command = [sys.executable, "-c", OTHER, str(transport.addresses["here"][1])]
        with subprocess.Popen(command) as process:
            while not (heard := cluster.state("here").get("heard")):
                cluster.barrier(0.01)
            transport.addresses["there"] = tuple(heard[0])
            cluster.send("there", 21)
            while len(heard := cluster.state("here")["heard"]) < 2:
                cluster.barrier(0.01)
            assert heard[1] == 42
            assert process.wait(20) == 0
        cluster.stop_all()
