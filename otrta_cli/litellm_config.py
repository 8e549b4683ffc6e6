"""LiteLLM's config file as LiteLLM reads it, as far as a gateway's operator needs it: without LiteLLM."""

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import click

_MOST_FILES: Final = 50
_FROM_ENVIRONMENT: Final = "os.environ/"


@dataclass(frozen=True, slots=True)
class LitellmConfig:
    """What stands in a config, variables put in; it may hold keys, so its repr shows nothing.

    Attributes:
        otrta: the gateway's settings, or None.
        models: the list of deployments.
        general: ``general_settings``.
        litellm: ``litellm_settings``.
        router: ``router_settings``.
    """

    otrta: Any = field(default=None, repr=False)
    models: list[dict[str, Any]] = field(default_factory=list, repr=False)
    general: dict[str, Any] = field(default_factory=dict, repr=False)
    litellm: dict[str, Any] = field(default_factory=dict, repr=False)
    router: dict[str, Any] = field(default_factory=dict, repr=False)


def keep_litellm_quiet() -> None:
    """Before LiteLLM is imported: have only its errors written amid what a command says.

    Where it cannot download its list of prices it warns of each attempt, and then uses its own.
    """
    logging.getLogger("LiteLLM").setLevel(logging.ERROR)


def read_config(path: Path | None, environ: Mapping[str, str] = os.environ) -> LitellmConfig:
    """Read a config file with what it includes; an empty one where there is no path.

    Raises:
        click.ClickException: it cannot be read, or is no mapping.
    """
    if path is None:
        return LitellmConfig()
    merged: dict[str, Any] = {}
    waiting, seen = [path.absolute()], 0
    while waiting and seen < _MOST_FILES:
        at, seen = waiting.pop(0), seen + 1
        told = _load(at)
        for name in told.pop("include", None) or []:
            waiting.append(at.parent / str(name))
        for key, value in told.items():
            both = isinstance(value, list) and isinstance(merged.get(key), list)
            merged[key] = [*merged[key], *value] if both else value
    found = _with_variables(merged, environ)
    callbacks = _mapping(found, "callback_settings")
    return LitellmConfig(
        callbacks.get("otrta"),
        [each for each in found.get("model_list") or [] if isinstance(each, dict)],
        _mapping(found, "general_settings"),
        _mapping(found, "litellm_settings"),
        _mapping(found, "router_settings"),
    )


def _load(path: Path) -> dict[str, Any]:
    try:
        import yaml
    except ImportError:
        raise click.ClickException(
            "reading LiteLLM's config needs PyYAML: pip install 'otrta[gateway]'"
        ) from None
    try:
        told = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise click.ClickException(f"cannot read {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" (line {mark.line + 1})" if mark is not None else ""
        raise click.ClickException(f"{path} is no YAML{where}") from None
    if not isinstance(told, dict):
        raise click.ClickException(f"{path} is no config of LiteLLM: it holds no mapping")
    return told


def _mapping(config: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = config.get(key)
    return value if isinstance(value, dict) else {}


def _with_variables(value: Any, environ: Mapping[str, str]) -> Any:
    """Put variables in where LiteLLM does: in scalars of mappings, those in lists of mappings too."""
    if isinstance(value, dict):
        return {key: _variable(each, environ) for key, each in value.items()}
    if isinstance(value, list):
        return [_with_variables(each, environ) if isinstance(each, dict) else each for each in value]
    return value


def _variable(value: Any, environ: Mapping[str, str]) -> Any:
    if isinstance(value, str) and value.startswith(_FROM_ENVIRONMENT):
        return environ.get(value.removeprefix(_FROM_ENVIRONMENT))
    return _with_variables(value, environ)
