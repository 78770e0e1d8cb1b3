import asyncio
import contextlib
import pickle
import traceback
import warnings
from typing import Any

import distributed.utils  # noqa: F401  from here on, errors are pickled with traces, and what they came of
import numpy as np
import pytest
import torch

from byzflow.engine.actor.sendable import portable
from byzflow.engine.rounds.answers import Reason, refusal
from byzflow.engine.rounds.harmless import guarded, harmless, harmless_error
from byzflow.engine.rounds.plain import plain
from byzflow.engine.rounds.resident import Resident
from byzflow.exceptions import CheckpointError, NodeError, ToleranceError
from tests.engine.rounds.malformed import without_memory


def bite(*args: Any) -> Any:
    raise SystemExit("bitten")


class BitingError(Exception):
    __getattribute__ = __reduce_ex__ = __setattr__ = bite


class ClaimingError(BitingError):
    __module__ = "builtins"


class LoadingError(ValueError):
    def __reduce__(self) -> Any:
        return bite, ()


class Loading:
    def __reduce__(self) -> Any:
        return bite, ()


LOADED: list[str] = []


class WaitingError(Exception):
    """Notes where it is unpickled, and looks harmless."""

    def __reduce__(self) -> Any:
        return _load, ("here",)


def _load(text: str) -> Exception:
    LOADED.append(text)
    return ValueError(text)


class BitingTensor(torch.Tensor):
    __reduce_ex__ = bite

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise SystemExit("bitten")


class Node:
    """Returns what it was made with, or raises it."""

    def __init__(self, thing: Any) -> None:
        self.thing = thing

    def act(self) -> Any:
        if isinstance(self.thing, BaseException):
            raise self.thing
        return self.thing


class AsyncNode(Node):
    async def act(self) -> Any:
        return super().act()


HOSTILE = {
    "BitingError": lambda: BitingError("no"),
    "ClaimingError": lambda: ClaimingError("no"),
    "LoadingError": lambda: LoadingError("no"),
    "ValueError": lambda: ValueError(Loading()),
    "FileNotFoundError": lambda: OSError(2, "no", Loading()),
    "ImportError": lambda: ImportError("no", name=Loading()),
    "ExceptionGroup": lambda: ExceptionGroup("no", [LoadingError()]),
}  # made in the test: pytest looks at what it is given
PLAIN = [ValueError("no"), KeyboardInterrupt(), OSError(2, "no", "file"), ToleranceError("no"),
         AttributeError("no", name="x"), asyncio.CancelledError()]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_an_error_with_code_of_its_own_becomes_what_it_says(name: str) -> None:
    stand_in = pickle.loads(pickle.dumps(harmless_error(HOSTILE[name]())))
    assert type(stand_in) is NodeError
    assert str(stand_in).startswith(f"{name}: ")
    assert refusal(stand_in) == (Reason.RAISED, str(stand_in))


@pytest.mark.parametrize("error", PLAIN, ids=lambda error: type(error).__name__)
def test_an_error_of_python_or_byzflow_stays_what_it_is(error: BaseException) -> None:
    assert harmless_error(error) is error


@pytest.mark.parametrize("said", ["x" * 10**6, b"x" * 10**6, 1 << 10**7], ids=type)
@pytest.mark.parametrize("kind", [ValueError, LoadingError])
def test_an_error_or_a_text_of_any_length_takes_little_to_send(kind: Any, said: Any) -> None:
    stand_in = harmless_error(kind(said))
    assert type(stand_in) is NodeError
    assert len(pickle.dumps(portable(stand_in))) < 50_000
    assert len(pickle.dumps(harmless(said))) < 1000


@pytest.mark.parametrize("attribute", ["__cause__", "__context__"])
def test_an_error_that_came_of_one_with_code_is_sent_without_that(attribute: str) -> None:
    behind, error = KeyError("between"), ValueError("no")
    setattr(behind, attribute, WaitingError("code"))
    setattr(error, attribute, behind)
    stand_in = pickle.loads(pickle.dumps(portable(harmless_error(error))))
    assert str(stand_in) == "ValueError: no"
    assert "WaitingError: code" in stand_in.__notes__[0]
    assert LOADED == []


@pytest.mark.parametrize("attribute", ["__cause__", "__context__"])
def test_errors_that_came_of_each_other_are_looked_at_once(attribute: str) -> None:
    one, other = ValueError("one"), ValueError("other")
    setattr(one, attribute, other)
    setattr(other, attribute, one)
    assert harmless_error(one) is one


def test_a_trace_is_sent_as_text() -> None:
    space = {"__name__": WaitingError(), "__builtins__": __builtins__}
    exec("def act():\n    raise ValueError('no')", space)
    with pytest.raises(ValueError, match="no") as caught:
        space["act"]()
    error = pickle.loads(pickle.dumps(portable(harmless_error(caught.value))))
    assert "in act" in error.__notes__[0]
    assert LOADED == []


def test_an_error_with_many_causes_takes_little_to_send() -> None:
    cause: BaseException | None = None
    for number in range(300):
        error = ValueError(number)
        error.__cause__, cause = cause, error
    assert len(pickle.dumps(portable(harmless_error(error)))) < 50_000


def test_the_trace_of_a_replaced_error_is_kept() -> None:
    with pytest.raises(NodeError) as caught:
        guarded(Node(LoadingError("no")).act)
    assert "in act" in caught.value.__notes__[0]


@pytest.mark.parametrize("error", [ValueError("no"), LoadingError("no")], ids=repr)
@pytest.mark.parametrize("kind", [Node, AsyncNode])
def test_an_error_that_is_raised_in_every_round_gathers_no_frames(kind: type[Node], error: Exception) -> None:
    cause = error.__cause__ = KeyError("why")
    frames = set[int]()
    for _ in range(4):
        with contextlib.suppress(KeyError):
            raise cause
        with pytest.raises((ValueError, NodeError)):
            asyncio.run(answer_of(guarded(kind(error).act)))
        frames.add(sum(len(list(traceback.walk_tb(e.__traceback__))) for e in (error, cause)))
    assert len(frames) == 1


async def answer_of(value: Any) -> Any:
    return await value if asyncio.iscoroutine(value) else value


@pytest.mark.parametrize(
    "value", [Loading(), [1.0], np.array([Loading()]), {"x": Loading()}, Loading], ids=repr
)
def test_an_answer_that_is_no_array_becomes_its_kind(value: Any) -> None:
    known = pickle.loads(pickle.dumps(harmless(value)))
    assert known.signature is None
    assert known.row is None
    assert known.kind


def test_an_array_with_code_of_its_own_becomes_a_plain_one() -> None:
    plain = torch.ones(3)
    assert type(harmless(plain.as_subclass(BitingTensor))) is torch.Tensor
    assert harmless(plain) is plain
    assert not harmless(torch.ones(3, requires_grad=True)).requires_grad
    assert type(harmless(np.ma.masked_array(np.ones(3)))) is np.ndarray


@pytest.mark.parametrize(
    "value", [torch.zeros(1).expand(10**12), np.broadcast_to(np.zeros(1), 10**12)], ids=type
)
def test_an_array_that_pretends_to_more_than_it_has_is_not_laid_out(value: Any) -> None:
    assert harmless(value).signature is None


@pytest.mark.parametrize("kind", [Node, AsyncNode])
@pytest.mark.parametrize("method", ["resident_call", "resident_hold", "resident_read", "resident_tell"])
def test_a_resident_lets_nothing_hostile_out(kind: type[Node], method: str) -> None:
    async def ask(thing: Any) -> Any:
        answer = getattr(Resident(kind(thing)), method)(0, "act")
        return await answer if asyncio.iscoroutine(answer) else answer

    assert asyncio.run(ask(Loading())).kind == "Loading"
    with pytest.raises(NodeError, match="LoadingError: no"):
        asyncio.run(ask(LoadingError("no")))


def test_a_vector_without_memory_is_said_to_be_so_and_no_entry_is_read() -> None:
    freed, functional, *others = without_memory()
    for vector in (freed, functional, freed.detach(), torch._neg_view(freed)):
        assert harmless(vector).kind == "a torch.strided tensor of torch.float32 without memory"
    for vector in others:
        with pytest.raises(RuntimeError, match="doesn't have storage"):
            guarded(lambda vector=vector: vector)
    cut = torch.ones(1 << 20).requires_grad_()
    cut.untyped_storage().resize_(4)
    assert harmless(cut).signature is None
    assert harmless(torch.ones(0)).shape == (0,)


def test_a_state_without_memory_is_refused() -> None:
    with pytest.raises(CheckpointError, match="state/w is a Tensor"):
        plain({"w": without_memory()[0]})


@pytest.mark.parametrize("layout", [torch.strided, torch.jagged])
def test_a_nested_tensor_is_no_vector(layout: torch.layout) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a prototype, says torch
        nested = torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=layout)
    answer = harmless(nested)
    assert (answer.signature, answer.row) == (None, None)
    assert "tensor" in answer.kind.lower()
