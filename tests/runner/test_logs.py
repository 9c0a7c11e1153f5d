"""The log: readable, for machines where wanted, and without secrets."""

import io
import json
import logging

import pytest
import structlog

from arimonitor_runner.logs import configure_logs
from arimonitor_runner.settings import LogSettings


@pytest.fixture(autouse=True)
def _restored():
    """Leave structlog and logging as they were."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)


def lines(act, secrets=(), **settings):
    """What a function that is given a logger writes, as JSON objects."""
    stream = io.StringIO()
    configure_logs(LogSettings(format="json", **settings), secrets=secrets, stream=stream)
    act(structlog.get_logger())
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_json_lines_hold_event_level_time_and_context():
    """One object a line, with what was bound to the context."""

    def act(log):
        with structlog.contextvars.bound_contextvars(call="guid"):
            log.info("rung", vhost="vila")

    (line,) = lines(act)
    assert line.pop("timestamp").endswith("Z")
    assert line == {"event": "rung", "level": "info", "call": "guid", "vhost": "vila"}


def test_the_level_is_a_lower_bound():
    """What is below it is not written."""
    told = lines(lambda log: (log.debug("a"), log.warning("b"), log.error("c")), level="warning")
    assert [line["event"] for line in told] == ["b", "c"]


def test_nothing_secret_is_written():
    """Neither by name, nor inside a URL, nor as the plain text of a known secret, nor in a traceback."""

    def act(log):
        log.info(
            "connect geheim!", url="amqp://user:geheim@rabbit", query="ws://pbx/?api_key=u:geheim", password="geheim"
        )
        log.info("object", where=ValueError("geheim"), count=3, nothing=None)
        try:
            secret = "geheim"
            raise RuntimeError(secret)
        except RuntimeError:
            log.exception("failed")

    told = lines(act, secrets=["geheim", "", "abc"])
    assert "geheim" not in json.dumps(told)
    assert told[0]["event"] == "connect ***!"
    assert told[0]["url"] == "amqp://user:***@rabbit"
    assert (told[0]["query"], told[0]["password"]) == ("ws://pbx/?api_key=***", "***")
    assert (told[1]["where"], told[1]["count"], told[1]["nothing"]) == ("***", 3, None)
    assert "RuntimeError: ***" in told[2]["exception"]


def test_libraries_write_into_the_same_log_and_not_below_a_warning():
    """At debug level websockets would write our Authorization header."""

    def act(_log):
        logging.getLogger("websockets.client").debug("> Authorization: Basic xyz")
        logging.getLogger("websockets.client").warning("odd %s", "frame")
        logging.getLogger("pika.adapters").error("eight lines a failure")

    (line,) = lines(act, level="debug")
    assert (line["event"], line["level"], line["logger"]) == ("odd frame", "warning", "websockets.client")


def test_the_console_format_is_for_people_and_shows_no_local_variables():
    """Tracebacks are plain."""
    stream = io.StringIO()
    configure_logs(LogSettings(), stream=stream)
    try:
        hidden = "a value"
        raise RuntimeError
    except RuntimeError:
        structlog.get_logger().exception("failed", vhost="vila", hidden=len(hidden))
    text = stream.getvalue()
    assert "[error" in text
    assert "vhost=vila" in text
    assert "Traceback (most recent call last)" in text
    assert "a value" not in text.replace('hidden = "a value"', "")
