"""The daemon's own log: structlog on standard error, for people or as JSON, the libraries' logs included.

Nothing secret gets into it: values of telling names, passwords inside URLs, and the secrets of the settings themselves,
wherever they turn up, are masked as the last step before a line is written.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable, Iterable, MutableMapping
from typing import Any, TextIO

import structlog

from arimonitor_runner.settings import LogSettings

MASK = "***"
SECRET_LENGTH_MIN = 4
"""A shorter secret is not searched for in texts: it would mask half of every line, and is no secret anyway."""

_SECRET_NAME = re.compile(r"password|passwd|secret|api_?key|authorization|credential", re.IGNORECASE)
_URL_PASSWORD = re.compile(r"(?P<head>[a-z][a-z0-9+.-]*://[^\s/@:]*:)[^\s/@]+(?=@)", re.IGNORECASE)
_URL_KEY = re.compile(r"(?P<head>api_key=)[^&\s]+")

_EventDict = MutableMapping[str, Any]


def configure_logs(settings: LogSettings, *, secrets: Iterable[str] = (), stream: TextIO | None = None) -> None:
    """Set up structlog and the standard library's logging. May be called again; the last call counts."""
    stream = stream or sys.stderr
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    shared: list[Callable[..., Any]] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        _Masking(secrets),
    ]
    renderer: Callable[..., Any]
    if settings.format == "json":
        renderer = structlog.processors.JSONRenderer(ensure_ascii=False)
    else:
        # The plain formatter: the default one shows the values of local variables, secrets among them.
        renderer = structlog.dev.ConsoleRenderer(
            colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(stream),
    )
    _configure_libraries(stream, shared, renderer, level)


def _configure_libraries(stream: TextIO, shared: list[Callable[..., Any]], renderer: Any, level: int) -> None:
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    # Never below a warning: websockets would write our Authorization header, pika every frame.
    root.setLevel(max(level, logging.WARNING))
    # pika writes up to eight lines for each failed attempt; the broker writes one, with the reason.
    logging.getLogger("pika").setLevel(logging.CRITICAL)
    logging.captureWarnings(capture=True)


class _Masking:
    """The structlog processor that hides secrets."""

    def __init__(self, secrets: Iterable[str]) -> None:
        known = sorted((s for s in secrets if len(s) >= SECRET_LENGTH_MIN), key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, known))) if known else None

    def __call__(self, _logger: object, _method: str, event: _EventDict) -> _EventDict:
        for name, value in event.items():
            event[name] = MASK if _SECRET_NAME.search(name) else self._masked(value)
        return event

    def _masked(self, value: Any) -> Any:
        if isinstance(value, str):
            text = value
        elif value is None or isinstance(value, (bool, int, float)):
            return value
        else:
            text = str(value)
        text = _URL_PASSWORD.sub(rf"\g<head>{MASK}", text)
        text = _URL_KEY.sub(rf"\g<head>{MASK}", text)
        return self._known.sub(MASK, text) if self._known is not None else text
