"""An experiment's file is validated as a whole before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from byzflow.aggregators.average import Average
from byzflow.aggregators.coordinate_wise import CoordinateWiseMedian, CoordinateWiseTrimmedMean
from byzflow.aggregators.geometric_wise import MultiKrum
from byzflow.attacks import EmpireAttack
from byzflow.exceptions import ConfigError
from byzflow.experiments.config import describe
from byzflow.experiments.load import load, parse
from byzflow.experiments.models import Mlp
from byzflow.experiments.partition import Dirichlet

EXAMPLE = Path(__file__).parents[2] / "examples" / "digits_ps.toml"

TABLE: dict[str, Any] = {
    "aggregator": {"name": "CoordinateWiseTrimmedMean"},
    "attack": {"name": "EmpireAttack", "scale": -10.0},
    "nodes": {"honest": 7, "byzantine": 2},
}


def test_what_the_file_says_is_what_the_run_holds() -> None:
    experiment = parse(
        TABLE
        | {
            "seed": 5,
            "model": {"name": "mlp", "hidden": [8]},
            "partition": {"name": "dirichlet", "alpha": 2},
            "training": {"rounds": 3},
        }
    )
    run = experiment.robust
    assert run.aggregator == CoordinateWiseTrimmedMean(f=2)
    assert (run.seed, run.model, run.partition) == (5, Mlp(hidden=(8,)), Dirichlet(alpha=2.0))
    assert run.training.rounds == 3


def test_the_three_cells_differ_in_rule_and_attack_only() -> None:
    cells = parse(TABLE).cells
    assert list(cells) == ["clean", "mean", "robust"]
    assert cells["clean"].attack is None
    assert cells["clean"].nodes.byzantine == 0
    assert cells["mean"].attack == cells["robust"].attack
    assert isinstance(cells["mean"].aggregator, Average)
    assert cells["clean"].data == cells["mean"].data == cells["robust"].data


def test_an_adaptive_attack_is_aimed_at_the_rules_of_its_cell() -> None:
    table = TABLE | {"attack": {"name": "OptimalEmpire"}, "pre_aggregators": ["Clipping"]}
    cells = parse(table).cells
    assert cells["mean"].attack.aggregator == cells["mean"].aggregator
    assert cells["mean"].attack.pre_aggregators == ()
    assert cells["robust"].attack.aggregator == cells["robust"].aggregator
    assert cells["robust"].attack.pre_aggregators == cells["robust"].pre_aggregators


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"trainig": {}}, "Did you mean 'training'"),
        ({"training": {"rouns": 3}}, "Did you mean 'rounds'"),
        ({"training": {"momentum": 1.0}}, "momentum must be below 1; got 1.0"),
        ({"aggregator": {"name": "MultiKrun", "q": 2}}, "Did you mean 'MultiKrum'"),
        ({"aggregator": {"name": "CoordinateWiseTrimmedMean", "f": 5}}, "7 honest nodes of 9"),
        ({"attack": {"name": "MimicAttack", "epsilon": 7}}, "7 honest nodes of 9"),
        ({"pre_aggregators": {"name": "Clipping"}}, "[[pre_aggregators]]"),
        ({"pre_aggregators": [{"name": "Clippin"}]}, "Did you mean 'Clipping'"),
        ({"nodes": {"honest": 0}}, "honest must be at least 1; got 0"),
        ({"cluster": {"backend": "threads"}}, "must be process or thread; got 'threads'"),
        ({"data": {"name": "mnist"}}, "needs the key 'path'"),
        ({"partition": "irichlet"}, "Did you mean 'dirichlet'"),
        ({"seed": "one"}, "seed must be an integer"),
        ({"seed": -1}, "The experiment's seed must be at least 0; got -1"),
        ({"name": 3}, "name must be a string"),
    ],
)
def test_a_wrong_key_is_refused_with_advice(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        parse(TABLE | change)
    assert words in str(refusal.value), str(refusal.value)


def test_byzantine_nodes_need_an_attack() -> None:
    with pytest.raises(ConfigError, match=r"needs an \[attack\]"):
        parse({"aggregator": "Average"})


def test_an_aggregator_is_needed() -> None:
    with pytest.raises(ConfigError, match=r"needs an \[aggregator\]"):
        parse({"nodes": {"byzantine": 0}})


def test_overrides_change_keys_at_any_depth(tmp_path: Path) -> None:
    path = tmp_path / "file.toml"
    path.write_text(
        'aggregator = "Average"\n[nodes]\nbyzantine = 0\n[[pre_aggregators]]\nname = "Clipping"\n'
    )
    changes = ["training.lr=0.25", "pre_aggregators.0.threshold=7.0", "aggregator=CoordinateWiseMedian"]
    run = load(path, changes).robust
    assert run.training.lr == 0.25
    assert run.aggregator == CoordinateWiseMedian()
    assert run.pre_aggregators[0].threshold == 7.0


def test_another_name_is_another_rule_without_the_arguments_of_the_old_one() -> None:
    robust = load(EXAMPLE, ["attack.name=InfAttack", "partition.name=iid", "name=other"]).robust
    assert (type(robust.attack).__name__, type(robust.partition).__name__) == ("InfAttack", "Iid")
    changes = ["aggregator.q=2", "aggregator.name=MultiKrum", "attack.name=EmpireAttack"]
    robust = load(EXAMPLE, changes).robust
    assert (robust.aggregator, robust.attack) == (MultiKrum(3, 2), EmpireAttack(scale=-10.0))
    with pytest.raises(ConfigError, match="got 'scale'"):
        load(EXAMPLE, ["attack.name=InfAttack", "attack.scale=2"])


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("training.lr", "KEY=VALUE"),
        ("seed.x=1", "must name a key"),
        ("pre_aggregators.4.f=1", "index below 1"),
    ],
)
def test_a_wrong_override_is_refused(tmp_path: Path, override: str, words: str) -> None:
    path = tmp_path / "file.toml"
    path.write_text('seed = 1\naggregator = "Average"\n[[pre_aggregators]]\nname = "Clipping"\n')
    with pytest.raises(ConfigError, match=words):
        load(path, [override])


def test_a_missing_file_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml.*No such file"):
        load("nowhere.toml")


def test_broken_toml_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "file.toml"
    path.write_text("seed = \n")
    with pytest.raises(ConfigError, match="line 1"):
        load(path)


def test_a_description_is_plain_json() -> None:
    import json

    text = json.dumps(describe(parse(TABLE)))
    assert '"class": "EmpireAttack"' in text


def test_the_example_is_valid() -> None:
    assert load(EXAMPLE).name == "digits-ps"
