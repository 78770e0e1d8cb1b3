from __future__ import annotations

import logging

import pytest

from byzflow.engine.actor.quiet import Quiet


@pytest.fixture
def heard():
    records: list[str] = []

    class Ear(logging.StreamHandler):
        def emit(self, record):
            records.append(record.getMessage())

    logger = logging.getLogger("distributed")
    handlers = list(logger.handlers)
    for handler in handlers:  # those may be silent already, for the clusters that other tests hold open
        logger.removeHandler(handler)
    ear = Ear()
    logger.addHandler(ear)
    yield records
    logger.removeHandler(ear)
    for handler in handlers:
        logger.addHandler(handler)


def test_dask_is_quiet_until_the_last_one_has_closed(heard):
    log = logging.getLogger("distributed.scheduler")
    quiet = Quiet()
    quiet.begin()
    quiet.begin()
    quiet.end()
    log.error("hidden")
    log.critical("shown")
    quiet.end()
    log.error("shown again")
    assert heard == ["shown", "shown again"]


def test_a_handler_that_serves_other_loggers_too_still_shows_what_they_say() -> None:
    quiet, handler = Quiet(), logging.NullHandler()
    logger = logging.getLogger("distributed")
    logger.addHandler(handler)
    try:
        with quiet:
            shown = [
                name for name in ("distributed.core", "byzflow.engine") if handler.filter(warning_of(name))
            ]
    finally:
        logger.removeHandler(handler)
    assert shown == ["byzflow.engine"]


def warning_of(name: str) -> logging.LogRecord:
    return logging.LogRecord(name, logging.WARNING, __file__, 1, "said", None, None)
