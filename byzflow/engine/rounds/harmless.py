"""What a node answers or raises in a round, without code of the node's in it: nobody else has to run that."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Awaitable, Callable
from sys import getsizeof
from typing import Any

import numpy as np
import torch

from byzflow import exceptions
from byzflow.engine.actor.calls import LONG, Recorder, is_awaitable, text_of
from byzflow.engine.actor.vec import has_memory
from byzflow.engine.rounds.ambient import noted, put_back
from byzflow.engine.rounds.forms import digest_of

__all__ = ("guarded", "harmless", "harmless_error")

PLAIN = (type(None), bool, int, float, str, bytes)
CAUSES = 10  # errors that one may have come of
CAME_OF = (vars(BaseException)["__cause__"], vars(BaseException)["__context__"])  # whatever a class says
HEAP = 1 << 9  # flag of a class that was made by Python code
KNOWN = (
    asyncio.CancelledError,
    *(kind for name in exceptions.__all__ if isinstance(kind := getattr(exceptions, name), type)),
)


def guarded(work: Callable[..., Any], *args: Any, made: Callable[[Any], Any] | None = None) -> Any:
    """Call a node; return what is harmless of its answer, or an awaitable of that.

    Parameters
    ----------
    work : callable
        The call.
    *args
        Its arguments.
    made : callable, optional
        Makes the answer harmless; by default `harmless`.

    Raises
    ------
    BaseException
        What is harmless of its error.

    Examples
    --------
    >>> guarded(lambda: print)
    Digest(signature=None, norm=0.0, row=None, kind='builtin_function_or_method')
    """
    before = noted()
    try:
        answer = work(*args)
        if made is not None:
            return made(answer)
        return harmless(answer)
    except BaseException as error:
        stand_in = _unframed(error)
        if stand_in is error:
            raise
    finally:
        put_back(before)
    raise stand_in  # here, so that it does not hold the other one as its context


def harmless(answer: Any) -> Any:
    """Return a plain vector or short value as it is, and for anything else what is known of it.

    Of what may be awaited, that is a coroutine.

    Examples
    --------
    >>> harmless(1.5), harmless(object())
    (1.5, Digest(signature=None, norm=0.0, row=None, kind='object'))
    """
    kind = type(answer)
    if kind is torch.Tensor and answer.layout is torch.strided and not answer.is_nested:
        # Else it may pretend to far more than it has.
        if not answer.requires_grad and answer.is_contiguous() and has_memory(answer):
            return answer
    elif kind is np.ndarray:
        if answer.dtype.kind in "fiub" and answer.flags.c_contiguous:
            return answer
    elif kind in PLAIN and getsizeof(answer) <= LONG:
        return answer
    elif is_awaitable(answer):
        return _later(answer)
    digest = digest_of(answer)
    return digest if digest.signature is None else digest.row


def harmless_error(error: BaseException) -> BaseException:
    """Return an error, or what it says if it says much, or could run code of whoever raised it.

    Examples
    --------
    >>> class Loud(Exception):
    ...     def __str__(self):
    ...         return "no"
    >>> harmless_error(ValueError("no")), harmless_error(Loud())
    (ValueError('no'), NodeError('Loud: no'))
    """
    if _is_plain(error):
        return error
    name = type.__getattribute__(type(error), "__name__")[:200]
    stand_in = exceptions.NodeError(f"{name}: {text_of(error)}")
    with Recorder():
        stand_in.add_note("".join(traceback.format_exception(error))[:LONG])
    return stand_in


def _unframed(error: BaseException) -> BaseException:
    """Return what is harmless of an error, and let it and those it came of forget where they went through.

    A node may raise the same one in every round, as `Future.result` does: it gathers more frames each time.
    """
    stand_in = harmless_error(error)
    for one in _chain(error):
        BaseException.with_traceback(one, None)
    return stand_in


def _chain(error: BaseException) -> list[BaseException]:
    """Return an error and those it came of, one more than may be pickled at most."""
    seen: list[BaseException] = []
    todo: list[BaseException | None] = [error]
    while todo and len(seen) <= CAUSES:
        one = todo.pop()
        if one is not None and not any(one is known for known in seen):
            seen.append(one)
            todo += (come_of.__get__(one) for come_of in CAME_OF)
    return seen


def _is_plain(error: BaseException) -> bool:
    """Whether an error, and those it came of, are of classes without foreign code, and hold few plain values.

    Those it came of are pickled with it.
    """
    size = 0
    for count, one in enumerate(_chain(error)):
        if count == CAUSES or not _is_known(type(one)):
            return False
        more = [getattr(one, name, None) for name in ("filename", "filename2", "name", "path")]
        values = (*one.args, *one.__dict__.values(), *more)
        size += sum(map(getsizeof, values))
        if size > LONG or any(type(value) not in PLAIN for value in values):
            return False
    return True


def _is_known(kind: type[BaseException]) -> bool:
    if kind is exceptions.DeadlineError:  # it says that a node does not answer; one that raises it does
        return False
    return kind in KNOWN or not type.__getattribute__(kind, "__flags__") & HEAP


async def _later(answer: Awaitable[Any]) -> Any:
    with Recorder() as record:
        value = await answer
        return harmless(await value if is_awaitable(value) else value)  # a backend may hand on a coroutine
    assert record.error is not None
    raise _unframed(record.error)
