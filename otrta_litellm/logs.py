"""What the gateway writes: structured lines on stderr, text or JSON, without anything that could be spent.

Our own events are rebuilt without whatever looks like a secret. Records of LiteLLM and of all other libraries
lose tokens, payment requests and LiteLLM's master key, wherever they go.
"""

import logging
import sys
import traceback
from collections.abc import Callable, Collection, Mapping, MutableMapping
from typing import Any, Literal

import structlog

from otrta_core.redaction import redact, redact_spendable

LogFormat = Literal["text", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]

Secrets = Callable[[], Collection[str]]
"""Returns secrets that no pattern knows; it is asked for each line, as LiteLLM learns some of them late."""


def configure(log_format: LogFormat, level: LogLevel, secrets: Secrets = lambda: ()) -> None:
    """Send our events to stderr, and guard the records of all other loggers of this process."""
    renderer = (
        structlog.processors.JSONRenderer(sort_keys=True, default=str)
        if log_format == "json"
        else structlog.processors.KeyValueRenderer(key_order=["timestamp", "level", "event"], sort_keys=True)
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _without_traceback,
            Redactor(secrets),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=lambda *_args: structlog.PrintLogger(sys.stderr),  # the one that there is when it logs
        cache_logger_on_first_use=False,
    )
    guard_records(secrets)


class Redactor:
    """Takes secrets out of an event: out of all its texts, however deep, its keys included."""

    def __init__(self, secrets: Secrets = lambda: ()) -> None:
        self._secrets = secrets

    def __call__(
        self, _logger: Any, _method: str, event: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        """Return the event without them; a structlog processor."""
        literals = self._secrets()
        return {redact(str(name), literals): self._clean(value, literals) for name, value in event.items()}

    def _clean(self, value: Any, literals: Collection[str]) -> Any:
        if value is None or isinstance(value, bool | int | float):
            return value
        if isinstance(value, Mapping):
            return {redact(str(k), literals): self._clean(v, literals) for k, v in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [self._clean(item, literals) for item in value]
        if isinstance(value, BaseException):
            return type(value).__name__  # its text may hold anything
        if isinstance(value, bytes | bytearray):
            return redact(value.decode("utf-8", "replace"), literals)
        return redact(str(value), literals)


def guard_records(secrets: Secrets = lambda: ()) -> None:
    """Take spendable texts out of every record that any logger of this process makes from now on."""
    made = logging.getLogRecordFactory()
    if isinstance(made, _Guarded):
        made = made.made
    logging.setLogRecordFactory(_Guarded(made, secrets))


class _Guarded:
    def __init__(self, made: Callable[..., logging.LogRecord], secrets: Secrets) -> None:
        self.made = made
        self._secrets = secrets

    def __call__(self, *args: Any, **kwargs: Any) -> logging.LogRecord:
        record = self.made(*args, **kwargs)
        literals = self._secrets()
        try:
            text = record.getMessage()
        except Exception:  # a record that cannot be written is its logger's affair
            return record
        clean = redact_spendable(text, literals)
        if clean != text:
            record.msg, record.args = clean, ()
        if record.exc_info and record.exc_info[0] is not None:
            # formatters write this text instead of making their own
            record.exc_text = redact_spendable(
                "".join(traceback.format_exception(*record.exc_info)).rstrip("\n"), literals
            )
        return record


def _without_traceback(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    failure = event.pop("exc_info", None)
    if failure is True:
        failure = sys.exc_info()[1]
    if isinstance(failure, BaseException):
        event["error"] = type(failure).__name__
    return event
