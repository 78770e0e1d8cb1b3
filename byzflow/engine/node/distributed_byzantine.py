"""A Byzantine node whose attack runs as a pipeline on a pool."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar

from byzflow.engine.graph.ops import RemoteCallableOp
from byzflow.engine.graph.pool import ActorPool, ActorPoolConfig
from byzflow.engine.node.application import ByzantineNodeApplication
from byzflow.engine.node.base import ByzantineNode
from byzflow.engine.node.sync import run_sync
from byzflow.operators.base import OpContext, SubTask

__all__ = ("DistributedByzantineNode",)

KNOWN = ("x", "y", "honest_grads", "base_grad", "model")


class DistributedByzantineNode(ByzantineNode):
    """A Byzantine node with an attack pipeline: a given attack, or a method of the subclass.

    A subclass may define ``byzantine_gradient`` with any of the parameters x, y, honest_grads, base_grad and
    model; it then runs on a worker of the pool, with what a call supplies.

    Parameters
    ----------
    actor_pool : ActorPool or sequence of ActorPoolConfig
        Where the pipeline runs.
    attack : Attack, optional
        Needed unless the class defines ``byzantine_gradient``.
    metadata : mapping, optional
        For every operator.
    name : str, optional
        Default: the name of the class.

    Raises
    ------
    ValueError
        If there is neither.
    """

    __slots__ = ("application",)  # made with the node, and no part of the state that it is brought back with

    _own_attack: ClassVar[Callable[..., Any] | None] = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        own = cls.__dict__.get("byzantine_gradient")
        if own is not None:
            cls._own_attack = staticmethod(own)
            del cls.byzantine_gradient

    def __init__(
        self,
        *,
        actor_pool: ActorPool | Sequence[ActorPoolConfig],
        attack: Any = None,
        metadata: Mapping[str, Any] | None = None,
        name: str | None = None,
    ) -> None:
        self.attack = attack
        if attack is None and self._own_attack is None:
            raise ValueError(
                f"{type(self).__name__} needs an attack or a byzantine_gradient method of its own; got "
                "neither. Pass attack=... or define the method."
            )
        self.application = ByzantineNodeApplication(
            name=name or type(self).__name__, actor_pool=actor_pool, metadata=metadata
        )
        names = self._parameters()
        operator = attack
        if self._own_attack is not None:
            bound = _Bound(self._own_attack, self)
            operator = _OwnAttack(bound, input_mapping={parameter: parameter for parameter in names})
        self.application.register_operator(self.application.ATTACK_PIPELINE, operator, names)

    @property
    def pool(self) -> ActorPool:
        """The pool of the pipeline."""
        return self.application.pool

    def next_batch(self) -> tuple[Any, Any]:
        """Return no batch; a subclass with data overrides this."""
        return None, None

    def apply_server_gradient(self, vec: Any) -> None:
        """Ignore the update; a subclass with a model overrides this."""

    def byzantine_gradient(self, x: Any, y: Any, honest_grads: Sequence[Any] | None = None) -> Any:
        """Run the attack pipeline; works inside a running loop too."""
        return run_sync(self.byzantine_gradient_async(x=x, y=y, honest_grads=honest_grads))

    async def byzantine_gradient_async(
        self,
        *,
        x: Any = None,
        y: Any = None,
        honest_grads: Sequence[Any] | None = None,
        base_grad: Any = None,
        model: Any = None,
    ) -> Any:
        """Run the attack pipeline with what it needs of this.

        Raises
        ------
        ValueError
            If something it needs is missing.
        """
        given = {"x": x, "y": y, "honest_grads": honest_grads, "base_grad": base_grad, "model": model}
        if self._own_attack is None:
            return await self.run_attack(inputs=self.prepare_attack_inputs(**given))
        return await self.run_attack(inputs=self._own_inputs(given))

    async def run_attack(self, *, inputs: Mapping[str, Any]) -> Any:
        """Run the attack pipeline on its inputs."""
        return await self.application.run_attack(inputs=inputs)

    def prepare_attack_inputs(
        self,
        *,
        x: Any = None,
        y: Any = None,
        honest_grads: Sequence[Any] | None = None,
        base_grad: Any = None,
        model: Any = None,
    ) -> dict[str, Any]:
        """Return the inputs that the attack's flags ask for.

        Raises
        ------
        ValueError
            If one is missing.
        RuntimeError
            If the class has an attack of its own, which has no flags.
        """
        if self._own_attack is not None:
            raise RuntimeError(
                f"prepare_attack_inputs() needs an attack with flags; {type(self).__name__} defines "
                "byzantine_gradient itself. Pass its arguments to byzantine_gradient_async()."
            )
        given = {"x": x, "y": y, "honest_grads": honest_grads, "base_grad": base_grad, "model": model}
        inputs = {name: given[name] for name in self._parameters()}
        _require(type(self.attack).__name__, inputs)
        return {k: list(v) if k == "honest_grads" else v for k, v in inputs.items()}

    async def shutdown_distributed(self) -> None:
        """Shut the pool down."""
        await self.application.shutdown()

    def _parameters(self) -> tuple[str, ...]:
        if self._own_attack is None:
            flags = {"uses_model_batch": ("model", "x", "y"), "uses_base_grad": ("base_grad",)}
            flags["uses_honest_grads"] = ("honest_grads",)
            return tuple(
                n for flag, names in flags.items() if getattr(self.attack, flag, False) for n in names
            )
        signature = inspect.signature(self._own_attack)
        return tuple(name for name in signature.parameters if name in KNOWN)

    def _own_inputs(self, given: Mapping[str, Any]) -> dict[str, Any]:
        assert self._own_attack is not None
        parameters = inspect.signature(self._own_attack).parameters
        inputs = {name: given[name] for name in self._parameters()}
        needed = {n: v for n, v in inputs.items() if parameters[n].default is inspect.Parameter.empty}
        _require(f"{type(self).__name__}.byzantine_gradient", needed)
        return inputs


class _Bound:
    """The subclass's attack and its node."""

    def __init__(self, attack: Callable[..., Any], node: DistributedByzantineNode) -> None:
        self._attack, self._node = attack, node

    def __call__(self, **arguments: Any) -> Any:
        return self._attack(self._node, **arguments)

    def bare(self) -> _Bound:
        """Return one whose node is as this one's is now, without the application: what goes to a worker."""
        node = copy.copy(self._node)
        del node.application
        return _Bound(self._attack, node)


class _OwnAttack(RemoteCallableOp):
    fn: _Bound

    def create_subtasks(self, inputs: Mapping[str, Any], *, context: OpContext) -> Iterable[SubTask]:
        return [SubTask(fn=self.fn.bare(), kwargs=self.arguments(inputs), name=self.name)]


def _require(who: str, inputs: Mapping[str, Any]) -> None:
    missing = [name for name, value in inputs.items() if value is None]
    if missing:
        raise ValueError(
            f"{who} needs {', '.join(missing)}; got None. Pass {'it' if len(missing) == 1 else 'them'}."
        )
