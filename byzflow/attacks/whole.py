"""Attacks that need all columns of the honest vectors before they can write one."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import numpy as np

from byzflow.attacks.base import StatefulAttack
from byzflow.kernels.intake import listed
from byzflow.kernels.rows import Array
from byzflow.operators.checks import carried
from byzflow.operators.lazy import as_lazy

__all__ = ("LearningAttack", "whole")


def whole(attack: Callable[[Sequence[Array]], Array], honest: Any) -> Any:
    """Call `attack` on the honest vectors; on an (h, d) dask.array, later and as one task."""
    if (lazy := as_lazy(honest)) is None:
        return attack(honest)
    if lazy.shape[0] == 0:
        return attack([])  # which says at once what is missing
    import dask.array as da
    from dask.delayed import delayed

    sent = delayed(attack, pure=False)(lazy)
    return da.from_delayed(sent, lazy.shape[1:], dtype=lazy.dtype, meta=lazy._meta)


class LearningAttack(StatefulAttack):
    """An attack with a memory of the honest vectors; its author writes `learn`.

    Attributes
    ----------
    remembers : tuple of str
        The vectors in its state, (d,) each.
    counts : tuple of str
        The numbers in its state, float64, (1,) each.
    """

    uses_honest_grads: ClassVar[bool] = True
    remembers: ClassVar[tuple[str, ...]] = ()
    counts: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def learn(
        self, honest: list[Array], state: Mapping[str, Array] | None
    ) -> tuple[Array, Mapping[str, Array]]:
        """Return the malicious vector and the state for the next round."""

    def step(self, state: Mapping[str, Array] | None, **inputs: Any) -> tuple[Array, Mapping[str, Array]]:
        """Return the malicious vector and the state for the next round; see `StatefulAttack.step`."""
        honest = inputs.get("honest_grads")
        if honest is None:
            raise ValueError(f"{type(self).__name__} needs honest_grads; got None. Pass honest_grads=...")
        if state is not None:
            carried(type(self).__name__, state, *self.remembers, *self.counts)
        if (lazy := as_lazy(honest)) is not None and lazy.shape[0]:
            return self._lazy_step(lazy, state)
        return self.learn(listed(honest), state)

    def _lazy_step(self, honest: Any, state: Any) -> tuple[Any, Mapping[str, Any]]:
        """Learn from an (h, d) dask.array, later and as one task."""
        import dask.array as da
        from dask.delayed import delayed

        learned = delayed(self.step, pure=False, nout=2)(state, honest_grads=honest)
        vector = partial(da.from_delayed, shape=honest.shape[1:], dtype=honest.dtype, meta=honest._meta)
        found = {name: vector(learned[1][name]) for name in self.remembers}
        found |= {name: da.from_delayed(learned[1][name], (1,), dtype=np.float64) for name in self.counts}
        return vector(learned[0]), found

    def apply(
        self,
        *,
        model: Any = None,
        x: Array | None = None,
        y: Array | None = None,
        honest_grads: Sequence[Array] | None = None,
        base_grad: Array | None = None,
    ) -> Array:
        """Attack as in a first round."""
        return whole(self._first, honest_grads)

    def _first(self, honest: Any) -> Array:
        return self.step(None, honest_grads=honest)[0]
