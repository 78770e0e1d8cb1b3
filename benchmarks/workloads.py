"""What is timed: the workloads of ByzPy's published table, and every rule again at 20 x 10^6.

One row names the rule in all three packages. ByzPy's class has byzflow's name and arguments; ByzFL's is
given where it has the rule.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from typing import Any

HOME = {
    "CoordinateWiseMedian": "aggregators.coordinate_wise",
    "CoordinateWiseTrimmedMean": "aggregators.coordinate_wise",
    "MeanOfMedians": "aggregators.coordinate_wise",
    "GeometricMedian": "aggregators.geometric_wise",
    "Krum": "aggregators.geometric_wise",
    "MultiKrum": "aggregators.geometric_wise",
    "MinimumDiameterAveraging": "aggregators.geometric_wise",
    "MoNNA": "aggregators.geometric_wise",
    "SMEA": "aggregators.geometric_wise",
    "CAF": "aggregators.norm_wise",
    "CenteredClipping": "aggregators.norm_wise",
    "ComparativeGradientElimination": "aggregators.norm_wise",
    "Pipeline": "aggregators",
    "ARC": "pre_aggregators",
    "Bucketing": "pre_aggregators",
    "Clipping": "pre_aggregators",
    "NearestNeighborMixing": "pre_aggregators",
    "EmpireAttack": "attacks",
    "GaussianAttack": "attacks",
    "LittleAttack": "attacks",
}
ARITHMETIC = {
    "CAF",
    "CenteredClipping",
    "CoordinateWiseMedian",
    "CoordinateWiseTrimmedMean",
    "GeometricMedian",
    "MeanOfMedians",
    "MinimumDiameterAveraging",
    "SMEA",
}
COLUMNWISE = {"CoordinateWiseMedian", "CoordinateWiseTrimmedMean", "MeanOfMedians", "LittleAttack"}


@dataclass(frozen=True)
class Workload:
    """One rule on n vectors of d float32 coordinates."""

    rule: str
    n: int
    d: int
    arguments: dict[str, Any] = field(default_factory=dict)
    byzfl: tuple[str, dict[str, Any]] | None = None

    @property
    def floor(self) -> str:
        """Which floor of `benchmarks.rules` the rule is held against."""
        if self.rule == "GaussianAttack":
            return "write"
        if self.rule in COLUMNWISE:
            return "pass"
        if self.rule == "NearestNeighborMixing":
            return "mix"
        return "rows" if HOME[self.rule] == "pre_aggregators" else "linear"

    def ours(self) -> Any:
        """Return byzflow's rule."""
        if self.rule == "Pipeline":
            return chain()
        return getattr(importlib.import_module(f"byzflow.{HOME[self.rule]}"), self.rule)(**self.arguments)

    def byzpy(self) -> Any:
        """Return ByzPy's rule."""
        return getattr(importlib.import_module(f"byzpy.{HOME[self.rule]}"), self.rule)(**self.arguments)


def chain() -> Any:
    """Return four pre-aggregators in front of MultiKrum."""
    from byzflow.aggregators.geometric_wise import MultiKrum
    from byzflow.aggregators.pipeline import Pipeline
    from byzflow.pre_aggregators import ARC, Bucketing, Clipping, NearestNeighborMixing

    before = (Clipping(), ARC(f=4), NearestNeighborMixing(f=4), Bucketing(bucket_size=2))
    return Pipeline(before, MultiKrum(f=2, q=4))


def _f(name: str, f: int) -> tuple[str, dict[str, Any]]:
    return name, {"f": f}


PUBLISHED = (
    Workload("MinimumDiameterAveraging", 30, 2048, {"f": 10}),
    Workload("SMEA", 16, 4096, {"f": 5}, _f("SMEA", 5)),
    Workload("ARC", 256, 65536, {"f": 8}, _f("ARC", 8)),
    Workload("CoordinateWiseTrimmedMean", 64, 65536, {"f": 8}, _f("TrMean", 8)),
    Workload("MeanOfMedians", 64, 65536, {"f": 8}, _f("Meamed", 8)),
    Workload("MoNNA", 64, 65536, {"f": 8}, _f("MoNNA", 8)),
    Workload("CAF", 64, 65536, {"f": 8}, _f("CAF", 8)),
    Workload("ComparativeGradientElimination", 64, 65536, {"f": 8}),
    Workload("CoordinateWiseMedian", 64, 65536, {}, ("Median", {})),
    Workload("GeometricMedian", 64, 65536, {}, ("GeometricMedian", {})),
    Workload("EmpireAttack", 64, 65536, {}, ("InnerProductManipulation", {})),
    Workload("GaussianAttack", 64, 65536, {}, ("Gaussian", {})),
    Workload(
        "CenteredClipping", 64, 65536, {"c_tau": 0.1, "M": 10}, ("CenteredClipping", {"L": 10, "tau": 0.1})
    ),
    Workload("MultiKrum", 80, 65536, {"f": 20, "q": 12}, _f("MultiKrum", 20)),
    Workload("LittleAttack", 96, 65536, {"f": 12}, ("ALittleIsEnough", {})),
    Workload("NearestNeighborMixing", 196, 4096, {"f": 32}, _f("NNM", 32)),
    Workload("Bucketing", 512, 16384, {"bucket_size": 32}, ("Bucketing", {"s": 32})),
    Workload("Clipping", 256, 65536, {}, ("Clipping", {})),
)
BIG = tuple(
    Workload(rule, 20, 10**6, arguments, byzfl)
    for rule, arguments, byzfl in (
        ("CoordinateWiseMedian", {}, ("Median", {})),
        ("CoordinateWiseTrimmedMean", {"f": 4}, _f("TrMean", 4)),
        ("MeanOfMedians", {"f": 4}, _f("Meamed", 4)),
        ("GeometricMedian", {}, ("GeometricMedian", {})),
        ("Krum", {"f": 4}, _f("Krum", 4)),
        ("MultiKrum", {"f": 4, "q": 8}, _f("MultiKrum", 4)),
        ("MinimumDiameterAveraging", {"f": 4}, _f("MDA", 4)),
        ("MoNNA", {"f": 4}, _f("MoNNA", 4)),
        ("SMEA", {"f": 4}, None),  # ByzFL's tries 4,845 subsets of a million columns: hours
        ("CAF", {"f": 4}, _f("CAF", 4)),
        ("CenteredClipping", {"c_tau": 0.1, "M": 10}, ("CenteredClipping", {"L": 10, "tau": 0.1})),
        ("ComparativeGradientElimination", {"f": 4}, None),
        ("ARC", {"f": 4}, _f("ARC", 4)),
        ("Bucketing", {"bucket_size": 2}, ("Bucketing", {"s": 2})),
        ("Clipping", {}, ("Clipping", {})),
        ("NearestNeighborMixing", {"f": 4}, _f("NNM", 4)),
        ("EmpireAttack", {}, ("InnerProductManipulation", {})),
        ("GaussianAttack", {}, ("Gaussian", {})),
        ("LittleAttack", {"f": 4}, ("ALittleIsEnough", {})),
    )
)
SMALL = tuple(
    Workload(w.rule, 64, 100, {**w.arguments, **({"f": 8} if "f" in w.arguments else {})}, w.byzfl)
    for w in BIG
    if w.rule not in {"MinimumDiameterAveraging", "SMEA"}
)
CHAIN = (Workload("Pipeline", 64, 65536), Workload("Pipeline", 20, 10**6))
