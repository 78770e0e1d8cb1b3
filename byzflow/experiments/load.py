"""From a TOML file to an `Experiment`; all of it is validated here, and nothing is run."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from byzflow.exceptions import ConfigError
from byzflow.experiments.config import ClusterConfig, Experiment, Nodes, Run, Training
from byzflow.experiments.data import DATA
from byzflow.experiments.models import MODELS
from byzflow.experiments.partition import PARTITIONS
from byzflow.experiments.registry import registry
from byzflow.experiments.tables import choose, read, reject_unknown

__all__ = ("load", "parse")

_KEYS = (
    "aggregator", "attack", "baseline", "cluster", "data", "model", "name", "nodes",
    "partition", "pre_aggregators", "seed", "training",
)  # fmt: skip


def load(path: str | Path, overrides: Sequence[str] = ()) -> Experiment:
    """Read and validate an experiment's file.

    Parameters
    ----------
    path : str or Path
        The TOML file.
    overrides : sequence of str
        Changes such as ``"training.lr=0.1"`` or ``"pre_aggregators.0.name=Clipping"``. Another name in a
        table is another rule: the file's other keys of that table, arguments of the old one, go with it.

    Raises
    ------
    ConfigError
        If the file cannot be read, or holds something that cannot be run.
    """
    try:
        table = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"An experiment is a TOML file that can be read; got {str(path)!r} ({error.strerror}). "
            "Check the path."
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path} must be valid TOML; the parser says: {error}. Correct that line."
        ) from error
    for override in sorted(overrides, key=lambda text: not _names(text)):
        _override(table, override)
    return parse(table)


def parse(table: Mapping[str, Any]) -> Experiment:
    """Turn a parsed TOML document into an `Experiment`.

    Examples
    --------
    >>> experiment = parse({"nodes": {"byzantine": 0}, "aggregator": "Average"})
    >>> list(experiment.cells)
    ['clean', 'mean', 'robust']
    """
    reject_unknown(table, dict.fromkeys(_KEYS), "The experiment")
    nodes = read(Nodes, table.get("nodes", {}), "[nodes]")
    data = choose(DATA, table.get("data", "digits"), "[data]")
    context = {"f": nodes.byzantine, "num_classes": data.classes}
    pre = table.get("pre_aggregators", [])
    if not isinstance(pre, list):
        raise ConfigError(
            f"pre_aggregators must be a list of tables; got {pre!r}. Write [[pre_aggregators]]."
        )
    if "aggregator" not in table:
        raise ConfigError(
            'The experiment needs an [aggregator]; got none. Add [aggregator] with name = "MultiKrum".'
        )
    aggregators, pre_aggregators = registry("aggregators"), registry("pre-aggregators")
    rules = {
        "aggregator": aggregators.build(table["aggregator"], "[aggregator]", context),
        "pre_aggregators": tuple(pre_aggregators.build(t, "[[pre_aggregators]]", context) for t in pre),
    }
    attack = table.get("attack")
    robust = Run(
        **rules,
        attack=None if attack is None else registry("attacks").build(attack, "[attack]", context | rules),
        seed=_top(table, "seed", 0),
        data=data,
        partition=choose(PARTITIONS, table.get("partition", "iid"), "[partition]"),
        model=choose(MODELS, table.get("model", "softmax"), "[model]"),
        training=read(Training, table.get("training", {}), "[training]"),
        nodes=nodes,
    )
    experiment = Experiment(
        name=_top(table, "name", "experiment"),
        robust=robust,
        baseline=aggregators.build(table.get("baseline", "Average"), "[baseline]", context),
        cluster=read(ClusterConfig, table.get("cluster", {}), "[cluster]"),
    )
    for run in experiment.cells.values():
        run.check()
    return experiment


def _top(table: Mapping[str, Any], key: str, default: Any) -> Any:
    value = table.get(key, default)
    if type(value) is not type(default):
        kind = "an integer" if isinstance(default, int) else "a string"
        raise ConfigError(f"{key} must be {kind}; got {value!r}. Write for example {key} = {default!r}.")
    return value


def _override(table: dict[str, Any], text: str) -> None:
    path, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"An override is KEY=VALUE; got {text!r}. Write for example training.lr=0.1.")
    *parents, last = path.strip().split(".")
    place: Any = table
    for part in parents:
        place = place[_index(place, part, path)] if isinstance(place, list) else place.setdefault(part, {})
        if not isinstance(place, dict | list):
            raise ConfigError(
                f"The override {path!r} must name a key; got {part!r}, which has none below it."
            )
    new = _literal(value.strip())
    if _names(text) and isinstance(place, dict) and place.get(last) != new:
        place.clear()
    place[_index(place, last, path) if isinstance(place, list) else last] = new


def _names(override: str) -> bool:
    """Whether an override says what a table is about; the experiment's own name does not."""
    return override.partition("=")[0].strip().endswith(".name")


def _index(place: list[Any], part: str, path: str) -> int:
    if not part.isdecimal() or int(part) >= len(place):
        raise ConfigError(
            f"In the override {path!r}, {part!r} must be an index below {len(place)}. Count from 0."
        )
    return int(part)


def _literal(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
