"""Settings of torch that a node changes are not those of the next one."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch

from byzflow.engine.node.calls import Ask, Roster
from byzflow.engine.node.harmless import guarded


def settings() -> tuple[Any, ...]:
    return (
        torch.get_default_dtype(),
        torch.get_num_threads(),
        torch.is_grad_enabled(),
        torch.get_default_device(),
        torch.are_deterministic_algorithms_enabled(),
    )


CHANGES: list[Callable[[], Any]] = [
    lambda: torch.set_default_dtype(torch.float64),
    lambda: torch.set_num_threads(torch.get_num_threads() + 2),
    lambda: torch.set_grad_enabled(False),
    lambda: torch.set_default_device("meta"),
    lambda: torch._C._set_deterministic_algorithms(True),  # the public function takes a second the first time
]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("raises", [False, True])
def test_what_a_node_sets_is_put_back_after_its_call(change: Any, raises: bool) -> None:
    def act() -> None:
        change()
        if raises:
            raise ValueError("no")

    before = settings()
    try:
        guarded(act)
    except ValueError:
        assert raises
    assert settings() == before


def test_nodes_called_side_by_side_do_not_keep_each_others_settings() -> None:
    changed, seen = threading.Event(), threading.Event()

    def first() -> None:
        torch.set_default_dtype(torch.float64)
        changed.set()
        assert seen.wait(20)

    thread = threading.Thread(target=guarded, args=(first,))
    thread.start()
    assert changed.wait(20)
    guarded(seen.set)  # begins while the other's setting holds
    thread.join(20)
    assert torch.get_default_dtype() is torch.float32


def test_what_a_user_sets_between_calls_stays() -> None:
    guarded(lambda: None)
    torch.set_default_dtype(torch.float64)
    try:
        guarded(lambda: None)
        assert torch.get_default_dtype() is torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


class Node:
    def __init__(self) -> None:
        self.go_on = threading.Event()

    def act(self) -> None:
        pass

    def hang(self) -> None:
        self.go_on.wait(60)
        torch.set_default_dtype(torch.float16)


async def test_what_a_user_sets_while_a_node_that_was_given_up_hangs_stays() -> None:
    nodes = Node(), Node()
    roster = Roster(nodes)
    late = await roster.ask(0, {0: Ask("hang")}, deadline=0.1)
    torch.set_default_dtype(torch.float64)
    try:
        assert isinstance(late[0].error, TimeoutError)
        await roster.ask(0, {1: Ask("act")}, deadline=20.0)
        assert torch.get_default_dtype() is torch.float64
        nodes[0].go_on.set()
        await roster.ask(1, {0: Ask("act")}, deadline=20.0)  # waits for the first call to end
        assert torch.get_default_dtype() is torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
        roster.close()
