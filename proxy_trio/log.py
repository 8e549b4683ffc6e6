"""What the client writes for people to read: short lines on stderr, without anything that can be spent."""

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

from otrta_core.redaction import redact


def configure(level: int = logging.INFO) -> None:
    """Send our own events, and other libraries' warnings, to stderr. Errors show their type, never a text."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _without_traceback,
            structlog.processors.KeyValueRenderer(key_order=["timestamp", "level", "event"], sort_keys=True),
            _redacted,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_args: structlog.PrintLogger(sys.stderr),  # the one that there is when it logs
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    root = logging.getLogger()
    if not root.handlers:  # a program that has its own ways with logs keeps them
        root.addHandler(handler)
        root.setLevel(logging.WARNING)


def quiet() -> None:
    """Write nothing below errors: a command says on one line what went wrong."""
    configure(logging.ERROR)


def _without_traceback(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    failure = event.pop("exc_info", None)
    if isinstance(failure, BaseException):
        event["error"] = type(failure).__name__
    return event


def _redacted(_logger: Any, _method: str, line: Any) -> str:
    return redact(str(line))


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        record.exc_text = None
        if record.exc_info and record.exc_info[0] is not None:
            record.msg = f"{record.msg} ({record.exc_info[0].__name__})"
            record.exc_info = None
        record.stack_info = None
        return redact(super().format(record))
