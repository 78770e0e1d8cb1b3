"""The engine's settings: ``byzflow.yaml`` as defaults of ``dask.config``, and typed look-ups."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import dask.config
import yaml
from dask.utils import parse_timedelta

__all__ = ("seconds", "setting")


def setting(name: str) -> Any:
    """Return the value of ``byzflow.<name>``, as dask.config has it now.

    Examples
    --------
    >>> setting("channel.capacity")
    1024
    """
    return dask.config.get(f"byzflow.{name}")


def seconds(name: str) -> float | None:
    """Return the duration ``byzflow.<name>`` in seconds, or None where it is switched off.

    Examples
    --------
    >>> seconds("comm.connect-timeout")
    8.0
    >>> seconds("host.call-deadline") is None
    True
    """
    value = setting(name)
    return None if value is None else float(parse_timedelta(value, default="s"))


dask.config.update_defaults(
    yaml.safe_load(files("byzflow").joinpath("byzflow.yaml").read_text(encoding="utf-8"))
)
