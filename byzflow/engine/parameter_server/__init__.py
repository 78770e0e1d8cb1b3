"""Synchronous training with one server, and the report of each round."""

from __future__ import annotations

from byzflow.engine.parameter_server.ps import ParameterServer
from byzflow.engine.parameter_server.report import RoundReport
from byzflow.engine.rounds.answers import Exclusion, Reason

__all__ = ("Exclusion", "ParameterServer", "Reason", "RoundReport")
