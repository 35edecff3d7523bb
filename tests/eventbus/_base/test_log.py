"""The log helper."""

import logging

import pytest

from eventbus._base.log import Log


def test_arguments_become_fields(caplog: pytest.LogCaptureFixture) -> None:
    """Facts of the object and of the call are fields with our prefix; the text stays constant."""
    log = Log(endpoints="tcp://here", reason="general")
    with caplog.at_level(logging.WARNING, "eventbus"):
        log.warning("dropped %d events", 3, topic="plant", reason="full")
    (record,) = caplog.records
    fields = {name: value for name, value in vars(record).items() if name.startswith("eventbus_")}
    assert fields == {"eventbus_endpoints": "tcp://here", "eventbus_topic": "plant", "eventbus_reason": "full"}
    assert (record.name, record.msg, record.args) == ("eventbus", "dropped %d events", (3,))
    assert record.filename == "test_log.py"


def test_options_of_logging_stay_options(caplog: pytest.LogCaptureFixture) -> None:
    """`exc_info` is no field, and `exception` has the traceback."""
    log = Log("eventbus.command")
    try:
        raise ValueError("bad")
    except ValueError as error:
        log.exception("failed", error=type(error).__name__)
        log.error("failed", exc_info=error, error="ValueError")
    assert [record.exc_info[1].args for record in caplog.records if record.exc_info and record.exc_info[1]] == [("bad",)] * 2
    assert {vars(record)["eventbus_error"] for record in caplog.records} == {"ValueError"}


def test_nothing_is_done_below_the_level(caplog: pytest.LogCaptureFixture) -> None:
    """A record that no level lets through is not made."""
    log = Log()
    with caplog.at_level(logging.ERROR, "eventbus"):
        log.info("not seen", topic="plant")
    assert caplog.records == []
