"""The reference's small servers are `ParameterServer`: its rules, its answers, its end."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from byzflow.aggregators.coordinate_wise import CoordinateWiseMedian
from byzflow.engine.parameter_server.decentralized import DecentralizedParameterServer
from byzflow.engine.parameter_server.runner import ParameterServerRunner
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
    runner = ParameterServerRunner([constant(v) for v in VALUES], aggregator, transport="thread")
    runner.start()
    runner.start()
    assert [runner.run_round().tolist() for _ in range(2)] == [[expected] * 2] * 2
    runner.stop()
    runner.stop()


def test_a_runner_that_is_not_started_says_so() -> None:
    runner = ParameterServerRunner([constant(1.0)], transport="thread")
    with pytest.raises(RuntimeError, match=r"Call start\(\)"):
        runner.run_round()
    runner.start()
    runner.stop()
    with pytest.raises(RuntimeError, match=r"Call start\(\)"):
        runner.run_round()


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
