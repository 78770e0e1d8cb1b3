"""Settings of torch that a node changes are not those of the next one."""

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from byzflow.engine.rounds.calls import Ask, Roster
from byzflow.engine.rounds.harmless import guarded
from byzflow.engine.rounds.thread_state import state


def settings() -> tuple[Any, ...]:
    return (
        torch.get_default_dtype(),
        torch.get_num_threads(),
        torch.is_grad_enabled(),
        torch.get_default_device(),
        torch.are_deterministic_algorithms_enabled(),
        state(),
        torch.get_autocast_dtype("cpu"),
        torch.autocast_increment_nesting() - torch.autocast_decrement_nesting(),
        np.geterr(),
    )


class Functions(TorchFunctionMode):
    """Doubles what any function of torch returns."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return 2 * func(*args, **(kwargs or {}))


class Dispatches(TorchDispatchMode):
    """The same, one layer below."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return 2 * func(*args, **(kwargs or {}))


ENTERED: list[Any] = []


def enter(mode: Any) -> None:
    """Enter a mode and never leave it."""
    ENTERED.append(mode)
    mode.__enter__()


def infer_with_gradients() -> None:
    enter(torch.inference_mode())
    torch.set_grad_enabled(True)


CHANGES: list[Callable[[], Any]] = [
    lambda: torch.set_default_dtype(torch.float64),
    lambda: torch.set_num_threads(torch.get_num_threads() + 2),
    lambda: torch.set_grad_enabled(False),
    lambda: torch.set_default_device("meta"),
    lambda: torch._C._set_deterministic_algorithms(True),  # the public function takes a second the first time
    lambda: enter(torch.inference_mode()),
    infer_with_gradients,
    lambda: enter(torch.autocast("cpu", dtype=torch.float16)),
    lambda: enter(Functions()),
    lambda: enter(Dispatches()),
    lambda: (torch.set_default_device("meta"), enter(Functions())),
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


class Leaver:
    """Enters modes and does not leave them."""

    def act(self) -> None:
        for change in CHANGES[2:]:
            change()
        np.seterr(all="raise")


class Looker:
    def look(self) -> str:
        x = torch.ones(2, requires_grad=True)
        (slope,) = torch.autograd.grad((x * x).sum(), [x])
        return str((state(), torch.get_autocast_dtype("cpu"), np.geterr(), slope.tolist()))


async def test_no_node_is_led_by_what_another_one_has_entered_in_its_thread() -> None:
    nodes = [Leaver() if n % 2 else Looker() for n in range(40)]
    roster = Roster(nodes)
    want = Looker().look()
    for round in range(3):
        await roster.ask(round, {n: Ask("act") for n in range(1, 40, 2)}, deadline=20.0)
        seen = await roster.ask(round, {n: Ask("look") for n in range(0, 40, 2)}, deadline=20.0)
        assert {outcome.unwrap() for outcome in seen.values()} == {want}
    roster.close()


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
