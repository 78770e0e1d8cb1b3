"""The errors byzflow raises on purpose, and the one door through which optional packages come in."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable
from types import ModuleType

__all__ = (
    "ByzflowError",
    "CheckpointError",
    "ConfigError",
    "DeadlineError",
    "MissingExtraError",
    "NodeError",
    "NodeLostError",
    "ToleranceError",
    "require",
    "suggest",
)


class ByzflowError(Exception):
    """Base of every error that byzflow raises by design."""


class CheckpointError(ByzflowError, ValueError):
    """A checkpoint is torn, foreign, or does not fit what it is loaded into."""


class ConfigError(ByzflowError, ValueError):
    """A configuration file or table holds something that cannot be run."""


class DeadlineError(ByzflowError, TimeoutError):
    """A call, or the worker that it went to, did not end in time; raised by byzflow alone, not by a node."""


class MissingExtraError(ByzflowError, ImportError, RuntimeError):
    """An optional package is needed; the message names the pip extra that brings it."""


class NodeError(ByzflowError, RuntimeError):
    """A node raised an error of a kind of its own; this one says what that was."""


class NodeLostError(ByzflowError, RuntimeError):
    """The worker that held a node is gone."""


class ToleranceError(ByzflowError, ValueError):
    """A rule cannot keep its promise: too many Byzantine rows for the rows there are."""


def require(module: str, *, extra: str) -> ModuleType:
    """Import an optional module, or say which extra brings it.

    Parameters
    ----------
    module : str
        Dotted name to import.
    extra : str
        Name of the pip extra that installs it.

    Raises
    ------
    MissingExtraError
        If the module is not installed.

    Examples
    --------
    >>> require("json", extra="none").__name__
    'json'
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"This needs the package {module!r}, which could not be imported ({error}). "
            f'Install it with: pip install "byzflow[{extra}]"'
        ) from error


def suggest(name: str, valid: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the valid name nearest to `name`, or an empty string.

    Examples
    --------
    >>> suggest("krun", ["krum", "median"])
    " Did you mean 'krum'?"
    """
    lowered = {option.lower(): option for option in valid}
    close = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.5)
    return f" Did you mean {lowered[close[0]]!r}?" if close else ""
