"""The conformance suite, shipped for people who write their own rules: ``check_operator(op)``.

Needs no test framework, only the extra ``testing``: a broken law is an `AssertionError` whose text says
which law, where, and by how much. `CHECKS` lists the laws one by one, for a parametrised test.
"""

from __future__ import annotations

from byzflow.testing.checks import CHECKS, check_operator
from byzflow.testing.compare import assert_close, assert_finite, assert_same
from byzflow.testing.laws import Laws
from byzflow.testing.paths import PATHS, ClusterPath, run_eager
from byzflow.testing.vectors import HOSTILE, hostile_rows, rows

__all__ = (
    "CHECKS",
    "HOSTILE",
    "PATHS",
    "ClusterPath",
    "Laws",
    "assert_close",
    "assert_finite",
    "assert_same",
    "check_operator",
    "hostile_rows",
    "rows",
    "run_eager",
)
