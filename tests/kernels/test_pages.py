"""Memory of large answers is made page by page, and nothing else about them changes."""

from __future__ import annotations

import numpy as np
import pytest

from byzflow.kernels.pages import touched


def test_small_arrays_are_not_written_to():
    out = np.ones((3, 5))
    assert touched(out) is out
    np.testing.assert_array_equal(out, 1.0)


@pytest.mark.parametrize("shape", [(3, 524_287), (1, 1_048_576), (1_500_001, 1)])
def test_every_page_of_a_large_array_is_written_to_and_nothing_beyond_it(shape):
    size = shape[0] * shape[1]
    memory = np.ones(size + 2, np.float32)
    out = touched(memory[1:-1].reshape(shape))
    assert out.shape == shape
    pages = memory[1:-1][: size // 524_288 * 524_288].reshape(-1, 524_288)
    assert (pages == 0.0).any(axis=1).all()
    assert memory[-2] == 0.0
    assert memory[0] == memory[-1] == 1.0
