"""The reference's small servers are `ParameterServer`: its rules, its answers, its end."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch

from byzflow.aggregators.coordinate_wise import CoordinateWiseMedian
from byzflow.engine.parameter_server.decentralized import DecentralizedParameterServer
from byzflow.engine.parameter_server.runner import ParameterServerRunner
from byzflow.engine.transport.local import LocalTransport
from byzflow.engine.transport.tcp import TcpTransport
from byzflow.engine.transport.tcp_simple import TcpMailbox
from tests.engine.parameter_server.nodes import Honest, Liar

VALUES = (1.0, 2.0, 6.0)


def constant(value: float) -> Any:
    return lambda: torch.full((2,), value)


def highest(gradients: Any) -> torch.Tensor:
    return torch.stack(list(gradients)).amax(0)


@pytest.mark.parametrize(
    ("aggregator", "expected"), [(None, 3.0), (CoordinateWiseMedian(), 2.0), (highest, 6.0)]
)
def test_a_round_aggregates_what_the_functions_return(aggregator: Any, expected: float) -> None:
    runner = ParameterServerRunner([constant(v) for v in VALUES], aggregator, backend="thread")
    runner.start()
    runner.start()
    assert [runner.run_round().tolist() for _ in range(2)] == [[expected] * 2] * 2
    runner.stop()
    runner.stop()


def test_a_runner_that_is_not_started_says_so() -> None:
    runner = ParameterServerRunner([constant(1.0)], backend="thread")
    with pytest.raises(RuntimeError, match=r"Call start\(\)"):
        runner.run_round()
    runner.start()
    runner.stop()
    with pytest.raises(RuntimeError, match=r"Call start\(\)"):
        runner.run_round()


@pytest.mark.parametrize("make", [LocalTransport, TcpTransport])
def test_requests_and_gradients_go_over_a_transport(make: Any) -> None:
    transport = make()
    sent: list[str] = []
    send = transport.send
    transport.send = lambda to, payload: (sent.append(to), send(to, payload))[-1]
    runner = ParameterServerRunner([constant(v) for v in VALUES], transport=transport, backend="thread")
    assert runner.worker_ids == ["w0", "w1", "w2"]
    for _ in range(2):
        runner.start()
        assert runner.run_round().tolist() == [3.0, 3.0]
        runner.stop()
    assert sorted(sent) == ["server"] * 6 + ["w0", "w0", "w1", "w1", "w2", "w2"]
    if make is TcpTransport:
        transport.close()


def test_a_worker_that_raises_behind_a_transport_is_left_out_with_its_reason() -> None:
    def broken() -> Any:
        raise ZeroDivisionError("in a gradient")

    functions = [constant(v) for v in VALUES]
    runner = ParameterServerRunner([*functions, broken], transport=LocalTransport(), backend="thread")
    runner.start()
    assert runner.run_round().tolist() == [3.0, 3.0]
    assert "in a gradient" in str(runner._server.history[-1])
    runner.stop()


def test_a_worker_of_another_program_needs_a_transport() -> None:
    with pytest.raises(ValueError, match="Pass transport="):
        ParameterServerRunner([constant(1.0), "elsewhere"])


OTHER = """
import sys, threading, torch
from byzflow.engine.parameter_server.correspondence import serve_gradients
from byzflow.engine.transport.tcp import TcpTransport, send_message

server = ("127.0.0.1", int(sys.argv[1]))
transport = TcpTransport({"server": server})
done = threading.Event()
rounds = iter((2.0, 4.0))
serve_gradients(transport, "far", lambda: torch.full((2,), next(rounds)))
transport.register("end", lambda _: done.set())
send_message(("127.0.0.1", int(sys.argv[2])), {name: transport.addresses[name] for name in ("far", "end")})
done.wait(30)
"""


@pytest.mark.processes
def test_a_worker_of_another_process_takes_part_over_tcp() -> None:
    with TcpTransport() as transport, TcpMailbox() as mailbox:
        runner = ParameterServerRunner([constant(1.0), "far"], transport=transport, backend="thread")
        command = [sys.executable, "-c", OTHER, str(transport.addresses["server"][1]), str(mailbox.port)]
        with subprocess.Popen(command) as process:
            transport.addresses |= mailbox.recv(timeout=40)
            runner.start()
            assert [runner.run_round().tolist() for _ in range(2)] == [[1.5] * 2, [2.5] * 2]
            runner.stop()
            transport.send("end", None)
            assert process.wait(20) == 0


@pytest.mark.parametrize("liars", [None, [], [Liar()]])
async def test_bootstrap_rounds_and_shutdown(liars: Any) -> None:
    nodes = [Honest(i) for i in range(3)]
    server = DecentralizedParameterServer(nodes, liars, highest)
    await server.bootstrap()
    told = await server.round()
    rows = [Honest(i).honest_gradient_for_next_batch() for i in range(3)]
    assert (told >= highest(rows)).all()
    assert liars or torch.equal(told, highest(rows))
    assert all(torch.equal(node.w, -0.1 * told) for node in nodes)
    await server.shutdown()
    with pytest.raises(RuntimeError, match="shut down"):
        await server.round()
