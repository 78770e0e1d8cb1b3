"""The two attacks that combine honest rows."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from byzflow.attacks.empire import EmpireAttack
from byzflow.attacks.mimic import MimicAttack
from byzflow.exceptions import ToleranceError

HONEST = [torch.tensor([0.0, 2.0]), torch.tensor([4.0, 4.0])]


def test_empire_sends_a_multiple_of_the_mean():
    assert EmpireAttack().apply(honest_grads=HONEST).tolist() == [-2.0, -3.0]
    assert EmpireAttack(scale=0.5).apply(honest_grads=HONEST).tolist() == [1.0, 1.5]


def test_empire_leaves_out_what_is_not_finite():
    bad = [*HONEST, torch.tensor([float("nan"), 0.0])]
    assert EmpireAttack().apply(honest_grads=bad).tolist() == [-2.0, -3.0]
    with pytest.raises(ToleranceError, match="EmpireAttack"):
        EmpireAttack().apply(honest_grads=[np.full(2, np.nan)])


def test_mimic_sends_a_copy():
    copy = MimicAttack(epsilon=1).apply(honest_grads=HONEST)
    assert copy.tolist() == [4.0, 4.0]
    copy.zero_()
    assert HONEST[1].tolist() == [4.0, 4.0]


def test_missing_and_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="honest_grads"):
        EmpireAttack().apply()
    with pytest.raises(ValueError, match="epsilon=2, n=2"):
        MimicAttack(epsilon=2).apply(honest_grads=HONEST)
    with pytest.raises(ValueError, match="epsilon"):
        MimicAttack(epsilon=-1)
    with pytest.raises(ValueError, match="scale must be a number within float64; got nan"):
        EmpireAttack(scale=float("nan"))
