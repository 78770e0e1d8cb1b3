"""Label flipping: the honest gradient of a wrong loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from byzflow.attacks.base import Attack
from byzflow.kernels.rows import Array
from byzflow.operators.checks import finite, index, positive

__all__ = ("LabelFlipAttack",)


@dataclass(frozen=True, kw_only=True)
class LabelFlipAttack(Attack):
    """Send the gradient that the node's batch has with flipped labels.

    ``scale * d loss(model(x), y') / d parameters``, flattened over the trainable parameters in their order,
    with ``y' = num_classes - 1 - y``, or y mapped by `mapping` (all labels at once; those it does not name
    stay). A parameter that the loss does not depend on has gradient zero.

    Parameters
    ----------
    num_classes : int, optional
        Number of classes, for the rule that turns their order round.
    mapping : mapping of int to int, optional
        Label to wrong label; goes before `num_classes`.
    loss_fn : callable, optional
        ``loss_fn(model(x), labels)``, a scalar; by default the mean cross-entropy.
    scale : float, default 1.0
        Factor; finite.

    Raises
    ------
    ValueError
        If both rules are missing, `num_classes` is not positive, or `scale` not finite; at call, if something
        is None, the model has no trainable parameters, or a label is not below `num_classes`.
    TypeError
        If an option or the model is of the wrong kind.

    Notes
    -----
    One pass forward and one back through the model, O(d) beyond them. The model is as it was afterwards: its
    gradients, its mode and its buffers (the running statistics of a batch norm) are not touched.

    References
    ----------
    .. [1] Tolpegin, Truex, Gursoy, Liu, "Data poisoning attacks against federated learning systems",
       ESORICS 2020.

    Examples
    --------
    >>> model = torch.nn.Linear(2, 2, bias=False)
    >>> x, y = torch.ones(1, 2), torch.tensor([0])
    >>> sent = LabelFlipAttack(num_classes=2).apply(model=model, x=x, y=y)
    >>> sent.shape, model.weight.grad
    (torch.Size([4]), None)
    """

    num_classes: int | None = None
    mapping: Mapping[int, int] | None = None
    loss_fn: Callable[[Any, Any], Any] | None = None
    scale: float = 1.0
    uses_model_batch: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.num_classes is None and self.mapping is None:
            raise ValueError(
                "LabelFlipAttack needs num_classes or mapping; got neither. Say which labels to send."
            )
        if self.num_classes is not None:
            positive("num_classes", self.num_classes)
        if self.mapping is not None:
            if not isinstance(self.mapping, Mapping):
                raise TypeError(
                    f"mapping must map labels to labels; got {type(self.mapping).__name__}. Pass a dict."
                )
            pairs = {index("mapping", label): index("mapping", to) for label, to in self.mapping.items()}
            object.__setattr__(self, "mapping", pairs)
        if self.loss_fn is not None and not callable(self.loss_fn):
            raise TypeError(
                f"loss_fn must be callable; got {type(self.loss_fn).__name__}. Pass loss(output, labels)."
            )
        finite("scale", self.scale)

    def flip(self, y: torch.Tensor) -> torch.Tensor:
        """Return the wrong labels.

        Examples
        --------
        >>> LabelFlipAttack(mapping={0: 1, 1: 2}).flip(torch.tensor([0, 1, 2]))
        tensor([1, 2, 2])
        """
        if self.mapping is None:
            classes = self.num_classes or 0
            if y.numel() and not (y.min().item() >= 0 and y.max().item() < classes):
                raise ValueError(
                    f"LabelFlipAttack needs labels from 0 to num_classes - 1; got {y.min().item()} to "
                    f"{y.max().item()} with num_classes={classes}. Raise num_classes, or pass a mapping."
                )
            return classes - 1 - y
        wrong = y.clone()
        for label, other in self.mapping.items():
            wrong[y == label] = other
        return wrong

    def apply(
        self,
        *,
        model: Any = None,
        x: Array | None = None,
        y: Array | None = None,
        honest_grads: Sequence[Array] | None = None,
        base_grad: Array | None = None,
    ) -> Array:
        """Return the flattened gradient, (d,), in the parameters' dtype and on their device."""
        missing = [name for name, value in {"model": model, "x": x, "y": y}.items() if value is None]
        if missing or model is None:
            raise ValueError(
                f"LabelFlipAttack needs model, x and y; got None for {', '.join(missing)}. Pass them."
            )
        if not isinstance(model, torch.nn.Module):
            raise TypeError(
                f"LabelFlipAttack needs a torch.nn.Module; got {type(model).__name__}. Pass the model itself."
            )
        parameters = [p for p in model.parameters() if p.requires_grad]
        if not parameters:
            raise ValueError(
                "LabelFlipAttack needs a model with trainable parameters; got none. Set requires_grad."
            )
        loss_fn = torch.nn.functional.cross_entropy if self.loss_fn is None else self.loss_fn
        with torch.enable_grad():
            x = torch.tensor(x) if isinstance(x, np.ndarray) else x
            loss = loss_fn(_forward(model, x), self.flip(torch.as_tensor(y)))
            gradients = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
        return torch.cat([gradient.reshape(-1) for gradient in gradients]).mul_(float(self.scale))


def _forward(model: torch.nn.Module, x: Any) -> Any:
    """Run the model on copies of its buffers, which a batch norm in training mode writes to."""
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    return torch.func.functional_call(model, buffers, (x,)) if buffers else model(x)
