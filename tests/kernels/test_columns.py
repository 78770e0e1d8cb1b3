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
    "trimmed mean": lambda X: columns.trimmed_mean(X, 3),
    "mean around the median": lambda X: columns.mean_around_median(X, 12),
    "mean around the trimmed mean": lambda X: columns.mean_around_trimmed(X, 3, 12),
    "mean and deviation": lambda X: columns.mean_std(X, 2.0),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("rule", RULES)
def test_the_layout_of_a_block_does_not_change_a_bit(rule, layout):
    given = LAYOUTS[layout](BLOCK.copy())
    assert (given == BLOCK).all()
    assert RULES[rule](given).tobytes() == RULES[rule](BLOCK.copy()).tobytes()


def test_whole_and_short_numbers_are_ranked_as_well():
    for dtype in (np.int64, np.float16, ">f4"):
        assert columns.lower_median(np.array([[3], [-2], [-5], [1]], dtype)).tolist() == [-2.0]
