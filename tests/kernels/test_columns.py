"""Order statistics of blocks, whatever their layout in memory."""

import numpy as np
import pytest

from byzflow.kernels import columns

BLOCK = np.random.default_rng(0).standard_normal((20, 1500)).astype(np.float32)
LAYOUTS = {
    "part of a wider block": lambda X: np.pad(X, ((0, 0), (3, 8)))[:, 3:-8],
    "columns first": np.asfortranarray,
    "backwards": lambda X: np.ascontiguousarray(X[:, ::-1])[:, ::-1],
    "every other row": lambda X: np.repeat(X, 2, axis=0)[::2],
}
RULES = {
    "order": columns.order,
    "median": columns.lower_median,
    "mean": columns.mean,
    "trimmed mean": lambda X: columns.trimmed_mean(X, 3),
    "mean around": lambda X: columns.mean_around(columns.order(X), np.zeros(X.shape[1], X.dtype), 12),
    "mean and deviation": lambda X: columns.mean_std(X, 2.0),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("rule", RULES)
def test_the_layout_of_a_block_does_not_change_a_bit(rule, layout):
    given = LAYOUTS[layout](BLOCK.copy())
    assert (given == BLOCK).all()
    assert RULES[rule](given).tobytes() == RULES[rule](BLOCK.copy()).tobytes()
