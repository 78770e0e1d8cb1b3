"""All laws in one list, and one function that checks an operator against them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from byzflow.exceptions import require
from byzflow.operators.base import Operator
from byzflow.testing.arguments import check_bad_input, check_shapes
from byzflow.testing.bits import (
    check_chunk_size,
    check_dask_array,
    check_inputs_untouched,
    check_paths,
    check_repeatable,
    check_subtasks_grow,
    check_subtasks_travel,
)
from byzflow.testing.laws import Laws
from byzflow.testing.states import check_states
from byzflow.testing.values import (
    check_accuracy,
    check_far_from_origin,
    check_hostile_rows,
    check_permutation,
    check_scaling,
    check_translation,
)

__all__ = ("CHECKS", "check_operator")

CHECKS: tuple[Callable[[Operator, Laws], None], ...] = (
    check_accuracy,
    check_bad_input,
    check_chunk_size,
    check_dask_array,
    check_far_from_origin,
    check_hostile_rows,
    check_inputs_untouched,
    check_paths,
    check_permutation,
    check_repeatable,
    check_scaling,
    check_shapes,
    check_states,
    check_subtasks_grow,
    check_subtasks_travel,
    check_translation,
)
"""Every law, in alphabetic order."""


def check_operator(op: Operator, laws: Laws | None = None) -> None:
    """Check an aggregator, a pre-aggregator or an attack against every law of the package.

    Takes about a second. Needs no cluster; to check the compiled graph on one, compare `ClusterPath` with
    `run_eager`.

    Parameters
    ----------
    op : Operator
        The operator, ready to use.
    laws : Laws, optional
        What it promises. The default is a rule that commutes with permutations, translations and scalings
        and withstands two hostile rows of eleven.

    Raises
    ------
    AssertionError
        At the first broken law, naming it. An error that the operator itself raises comes out as it is, with
        a note that says which law was looked at.
    MissingExtraError
        If the package with the strict arrays is not there, which the extra ``testing`` brings.

    Examples
    --------
    >>> import numpy as np
    >>> from byzflow.aggregators.coordinate_wise import CoordinateWiseMedian
    >>> lower_median = lambda X: np.sort(X, axis=0)[(len(X) - 1) // 2]
    >>> check_operator(CoordinateWiseMedian(), Laws(reference=lower_median))
    """
    require("array_api_strict", extra="testing")  # now, as no law is broken without it
    for check in CHECKS:
        with _noted(f"The law that {type(op).__name__} broke: {check.__doc__}"):
            check(op, Laws() if laws is None else laws)


@contextmanager
def _noted(note: str) -> Iterator[None]:
    """Add a note to whatever is raised inside."""
    with ExitStack() as stack:
        stack.push(lambda kind, error, trace: error.add_note(note) if error is not None else None)
        yield
