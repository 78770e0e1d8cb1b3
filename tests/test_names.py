"""Names of rules, which are the names of their nodes in a graph of one: programs read outputs by them."""

from __future__ import annotations

from byzflow.experiments.registry import registry

AGGREGATORS = {
    "CoordinateWiseMedian": "coordinate-wise-median",
    "CoordinateWiseTrimmedMean": "coordinate-wise-trimmed-mean",
    "MeanOfMedians": "mean-of-medians",
    "GeometricMedian": "geometric-median",
    "MultiKrum": "multi-krum",
    "Krum": "krum",
    "MinimumDiameterAveraging": "minimum-diameter-averaging",
    "MoNNA": "monna",
    "SMEA": "smea",
    "CenteredClipping": "centered-clipping",
    "ComparativeGradientElimination": "comparative-gradient-elimination",
    "CAF": "caf",
}
PRE_AGGREGATORS = {
    "Bucketing": "pre-agg/bucketing",
    "Clipping": "pre-agg/clipping",
    "ARC": "pre-agg/arc",
    "NearestNeighborMixing": "pre-agg/nnm",
}


def named(kind: str) -> dict[str, str]:
    return {rule.__name__: rule.name for rule in registry(kind)}


def test_aggregators_are_named_as_in_the_reference():
    assert AGGREGATORS.items() <= named("aggregators").items()


def test_pre_aggregators_are_named_as_in_the_reference():
    assert PRE_AGGREGATORS.items() <= named("pre-aggregators").items()


def test_every_attack_is_named_attack():
    assert set(named("attacks").values()) == {"attack"}
