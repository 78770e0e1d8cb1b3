"""One row for each operator: how to make it, what defines it, which laws it obeys.

A new rule adds one row here and inherits every check. The options of a row are given to the class and to
its definition alike, so that both always have the same hyper-parameters.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from byzflow.operators.base import Operator
from byzflow.testing import Laws
from tests import reference as ref
from tests.reference import adversaries, selection, similarity, trust

__all__ = ("CASES", "Case")


@dataclass(frozen=True)
class Case:
    """A rule by its dotted path, its options for n rows, its definition and its laws."""

    rule: str
    definition: Callable[..., Any] | None
    options: Callable[[int], Mapping[str, Any]] = lambda n: {}
    laws: Laws = field(default_factory=Laws)
    variant: str = ""
    smallest: int = 4  # rows that the options still make sense for
    fixed: bool = False  # only laws.n rows make sense
    ties: bool = True  # the definition says what happens between equal rows and distances
    trusted: tuple[int, ...] = ()  # rows that never lie
    only_rule: tuple[str, ...] = ()  # options that the definition does not know

    @property
    def name(self) -> str:
        return self.rule.rpartition(".")[2] + (f"-{self.variant}" if self.variant else "")

    def rule_class(self) -> type[Any]:
        module, _, name = self.rule.rpartition(".")
        return getattr(importlib.import_module(f"byzflow.{module}"), name)

    def option_names(self) -> tuple[str, ...]:
        """What the class takes; nothing of one that is no dataclass, which a test of its own says."""
        rule = self.rule_class()
        return tuple(f.name for f in fields(rule) if f.init) if is_dataclass(rule) else ()

    def make(self, n: int | None = None) -> Operator:
        return self.rule_class()(**self.options(self.laws.n if n is None else n))

    def expected(self, n: int | None = None) -> Callable[[Any], Any] | None:
        if self.definition is None:
            return None
        options = self.options(self.laws.n if n is None else n)
        return partial(self.definition, **{k: v for k, v in options.items() if k not in self.only_rule})


def f_of(n: int) -> int:
    """A tolerance that every rule accepts: n >= 4 f + 1 where that is possible, never 0."""
    return max(1, (n - 1) // 4)


def with_f(n: int) -> dict[str, Any]:
    return {"f": f_of(n)}


def having(**options: Any) -> Callable[[int], dict[str, Any]]:
    """The same options whatever n is."""
    return lambda n: options


def made(aggregator: str, **options: Any) -> Any:
    """An aggregator that an option asks for."""
    module, _, name = aggregator.rpartition(".")
    return getattr(importlib.import_module(f"byzflow.aggregators.{module}"), name)(**options)


# A rule of the true zero (norms) does not commute with translations; one with a radius does not scale.
AT_ZERO = Laws(translates=False)
RADIUS = Laws(scales=False)
OWN = Laws(n=1, hostile=False, permutes=False, translates=False)
NOISE = Laws(n=3, hostile=False, translates=False, scales=False)


def chain(n: int) -> dict[str, Any]:
    """Four linear parts before a fifth, fused to two passes."""
    from byzflow.aggregators.norm_wise.center_clipping import CenteredClipping
    from byzflow.pre_aggregators.arc import ARC
    from byzflow.pre_aggregators.bucketing import Bucketing
    from byzflow.pre_aggregators.clipping import Clipping
    from byzflow.pre_aggregators.nnm import NearestNeighborMixing

    before = (Clipping(3.0), ARC(f=1), Bucketing(2, perm=range(n)), NearestNeighborMixing(f=1))
    # No Krum: mixtures that leave out the same bucket are the same row, and rounding would choose among them.
    return {"pre_aggregators": before, "aggregator": CenteredClipping(c_tau=0.5, M=3)}


def chained(X: Any, **_: Any) -> Any:
    mixed = ref.bucketing(ref.arc(ref.clipping(X, threshold=3.0), f=1), bucket_size=2)
    return ref.centered_clipping(ref.nearest_neighbor_mixing(mixed, f=1), c_tau=0.5, M=3)


def mixed_median(n: int) -> dict[str, Any]:
    """Linear parts before a column-wise one."""
    from byzflow.aggregators.coordinate_wise.median import CoordinateWiseMedian
    from byzflow.pre_aggregators.nnm import NearestNeighborMixing

    return {"pre_aggregators": (NearestNeighborMixing(f_of(n)),), "aggregator": CoordinateWiseMedian()}


def median_of_mixed(X: Any, **_: Any) -> Any:
    return ref.lower_median(ref.nearest_neighbor_mixing(X, f=f_of(len(X))))


CASES = (
    Case("aggregators.average.Average", ref.average),
    Case("aggregators.coordinate_wise.median.CoordinateWiseMedian", ref.lower_median),
    Case("aggregators.coordinate_wise.trimmed_mean.CoordinateWiseTrimmedMean", ref.trimmed_mean, with_f),
    Case("aggregators.coordinate_wise.mean_of_medians.MeanOfMedians", ref.mean_of_medians, with_f),
    Case("aggregators.geometric_wise.krum.Krum", ref.krum, with_f),
    Case(
        "aggregators.geometric_wise.krum.MultiKrum",
        ref.multi_krum,
        lambda n: {"f": f_of(n), "q": n - f_of(n) - 1},
    ),
    Case(
        "aggregators.geometric_wise.krum.MultiKrum",
        ref.multi_krum,
        having(f=0, q=1),
        Laws(hostile=False),
        variant="f0",
    ),
    Case(
        "aggregators.geometric_wise.geometric_median.GeometricMedian",
        ref.geometric_median,
        having(tol=1e-13, max_iter=20_000),
        variant="tight",
        ties=False,
    ),
    Case(
        "aggregators.geometric_wise.geometric_median.GeometricMedian",
        ref.geometric_median,
        laws=Laws(tolerance=1e-5),
        variant="default",
        ties=False,
    ),
    Case(
        "aggregators.geometric_wise.geometric_median.GeometricMedian",
        ref.geometric_median,
        having(tol=1e-13, max_iter=20_000, init="mean"),
        variant="mean",
        ties=False,
    ),
    Case(
        "aggregators.geometric_wise.minimum_diameter_average.MinimumDiameterAveraging",
        ref.minimum_diameter_averaging,
        with_f,
    ),
    Case("aggregators.geometric_wise.monna.MoNNA", ref.monna, with_f, Laws(permutes=False)),
    Case(
        "aggregators.geometric_wise.monna.MoNNA",
        ref.monna,
        lambda n: {"f": f_of(n), "reference_index": n // 2},
        Laws(permutes=False),
        variant="middle",
    ),
    Case("aggregators.geometric_wise.smea.SMEA", ref.smea, with_f, ties=False),
    Case(
        "aggregators.norm_wise.center_clipping.CenteredClipping",
        ref.centered_clipping,
        having(c_tau=0.7),
        RADIUS,
    ),
    Case(
        "aggregators.norm_wise.center_clipping.CenteredClipping",
        ref.centered_clipping,
        having(c_tau=2.0, M=3, init="median"),
        RADIUS,
        variant="median",
    ),
    Case(
        "aggregators.norm_wise.center_clipping.CenteredClipping",
        ref.centered_clipping,
        having(c_tau=2.0, M=3, init="zero"),
        Laws(scales=False, translates=False),
        variant="zero",
    ),
    Case(
        "aggregators.norm_wise.comparative_gradient_elimination.ComparativeGradientElimination",
        ref.comparative_gradient_elimination,
        with_f,
        AT_ZERO,
    ),
    Case("aggregators.norm_wise.caf.CAF", ref.caf, with_f, ties=False),
    Case(
        "pre_aggregators.bucketing.Bucketing",
        ref.bucketing,
        lambda n: {"bucket_size": 3, "perm": range(n)[::-1]},
        Laws(permutes=False),
    ),
    Case("pre_aggregators.clipping.Clipping", ref.clipping, laws=Laws(scales=False, translates=False)),
    Case("pre_aggregators.arc.ARC", ref.arc, with_f, AT_ZERO),
    Case("pre_aggregators.nnm.NearestNeighborMixing", ref.nearest_neighbor_mixing, with_f),
    Case("attacks.empire.EmpireAttack", ref.empire, having(scale=-1.1), Laws(translates=False)),
    Case("attacks.little.LittleAttack", ref.little, with_f),
    Case("attacks.little.LittleAttack", ref.little, having(f=3, N=20), variant="n-given"),
    Case("attacks.mimic.MimicAttack", ref.mimic, having(epsilon=2), Laws(hostile=False, permutes=False)),
    Case("attacks.sign_flip.SignFlipAttack", ref.sign_flip, having(scale=-2.5), OWN, fixed=True),
    Case("attacks.inf.InfAttack", ref.infinite, laws=NOISE),
    Case("attacks.gaussian.GaussianAttack", ref.gaussian, having(mu=0.5, sigma=2.0, seed=7), NOISE),
    Case("attacks.no_attack.NoAttack", lambda X: X[0], laws=replace(OWN, translates=True), fixed=True),
    Case("attacks.nan.NaNAttack", lambda X: np.full(X.shape[1], np.nan), laws=NOISE),
    Case("attacks.zero.ZeroAttack", lambda X: np.zeros(X.shape[1]), laws=replace(NOISE, scales=True)),
    Case("attacks.random.RandomAttack", None, having(low=-2.0, seed=7), NOISE),
    Case(
        "attacks.scaled_sign_flip.ScaledSignFlipAttack",
        adversaries.scaled_sign_flip,
        with_f,
        Laws(hostile=False, translates=False),
    ),
    *(
        Case(f"attacks.{rule}", definition, having(direction=direction), laws, variant=direction)
        for rule, definition in (
            ("min_max.MinMaxAttack", adversaries.min_max),
            ("min_sum.MinSumAttack", adversaries.min_sum),
        )
        for direction, laws in (
            ("std", Laws(hostile=False)),
            ("sign", Laws(hostile=False, translates=False)),
            ("unit", Laws(hostile=False, translates=False)),
        )
    ),
    Case("aggregators.coordinate_wise.phocas.Phocas", ref.phocas, with_f),
    Case(
        "aggregators.coordinate_wise.sign_majority.SignMajority",
        ref.sign_majority,
        laws=Laws(translates=False, scales=False),
    ),
    Case(
        "aggregators.geometric_wise.bulyan.Bulyan",
        selection.bulyan,
        lambda n: {"f": max(0, (n - 3) // 4)},
    ),
    Case(
        "aggregators.geometric_wise.divide_and_conquer.DivideAndConquer",
        selection.divide_and_conquer,
        lambda n: {"f": f_of(n), "dimension": 10**6},
        Laws(hostile=False),
        ties=False,
    ),
    Case(
        "aggregators.geometric_wise.divide_and_conquer.DivideAndConquer",
        None,
        lambda n: {"f": f_of(n), "iterations": 3, "dimension": 500, "seed": 1},
        Laws(translates=False),
        variant="sampled",
    ),
    Case(
        "attacks.optimal_little.OptimalLittle",
        None,
        lambda n: {"f": f_of(n), "aggregator": made("coordinate_wise.median.CoordinateWiseMedian")},
        Laws(hostile=False, translates=False),
    ),
    Case(
        "attacks.optimal_empire.OptimalEmpire",
        None,
        lambda n: {"f": 1, "aggregator": made("geometric_wise.krum.MultiKrum", f=1, q=2)},
        Laws(hostile=False, translates=False),
    ),
    Case(
        "attacks.fang_trimmed_mean.FangTrimmedMeanAttack",
        None,
        having(seed=5),
        Laws(hostile=False, translates=False),
    ),
    Case(
        "attacks.fang_krum.FangKrumAttack",
        adversaries.fang_krum,
        with_f,
        Laws(hostile=False, translates=False, tolerance=1e-7),  # scores may touch, as a parabola does a line
    ),
    Case("aggregators.geometric_wise.faba.FABA", selection.faba, with_f, ties=False),  # a mean is rounded
    Case(
        "aggregators.geometric_wise.minimum_variance_average.MinimumVarianceAveraging",
        ref.minimum_variance_averaging,
        with_f,
        ties=False,
    ),
    Case(
        "aggregators.geometric_wise.smoothed_geometric_median.SmoothedGeometricMedian",
        trust.smoothed_geometric_median,
        having(nu=0.1, T=4),
        Laws(translates=False, scales=False),
    ),
    Case(
        "aggregators.norm_wise.filter_l2.FilterL2",
        trust.filter_l2,
        having(sigma=1.0, expansion=2.0),
        RADIUS,
        ties=False,
    ),
    Case(
        "aggregators.norm_wise.fl_trust.FLTrust",
        trust.fl_trust,
        having(reference_index=2),
        Laws(permutes=False, translates=False),
        trusted=(2,),
    ),
    Case(
        "aggregators.norm_wise.stateful_center_clipping.StatefulCenteredClipping",
        ref.centered_clipping,
        having(c_tau=2.0, M=3, init="zero"),
        Laws(translates=False, scales=False),
    ),
    Case("aggregators.norm_wise.fools_gold.FoolsGold", similarity.fools_gold, laws=AT_ZERO),
    Case("aggregators.norm_wise.sign_guard.SignGuard", similarity.sign_guard, laws=AT_ZERO, ties=False),
    Case(
        "aggregators.norm_wise.clipped_clustering.ClippedClustering",
        similarity.clipped_clustering,
        laws=AT_ZERO,
        ties=False,
    ),
    Case("attacks.mimic_learned.MimicLearnedAttack", None, having(seed=2), NOISE),
    Case("attacks.rop.ROPAttack", None, having(z=0.5, relocation=0.3, angle=60.0), NOISE),
    Case(
        "aggregators.pipeline.Pipeline",
        chained,
        chain,
        Laws(permutes=False, translates=False, scales=False),
        variant="linear",
        smallest=5,
        ties=False,
    ),
    Case("aggregators.pipeline.Pipeline", median_of_mixed, mixed_median, variant="columnwise"),
)
