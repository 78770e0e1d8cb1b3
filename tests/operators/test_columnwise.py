"""Column-wise rules read rows where they lie, in spans of any width."""

import numpy as np
import torch

from byzflow.aggregators.coordinate_wise import CoordinateWiseMedian
from byzflow.kernels.blocks import Span
from byzflow.kernels.intake import as_rows


def test_a_span_of_many_blocks_has_the_answer_of_each():
    X = np.random.default_rng(0).standard_normal((5, 100_003)).astype(np.float32)
    rows, out = as_rows(list(X)).at(1000, 200_000), np.empty((1, 100_003), np.float32)
    CoordinateWiseMedian().emit(rows, None, Span(1000, 101_003), out)
    assert out[0].tobytes() == np.sort(X, axis=0)[2].tobytes()


def test_rows_in_another_dtype_are_read_as_blocks():
    vectors = [torch.full((70_000,), float(i), dtype=torch.bfloat16) for i in range(4)]
    answer = CoordinateWiseMedian().aggregate(vectors)
    assert answer.dtype is torch.bfloat16
    assert (answer == 1.0).all()


def test_a_rule_that_overrides_columns_gets_a_block():
    class Widest(CoordinateWiseMedian):
        def columns(self, X):
            return X.max(axis=0)

    assert Widest().aggregate([np.full(3, v) for v in (1.0, 5.0, 2.0)]).tolist() == [5.0, 5.0, 5.0]
