"""What is wrong with a setting, in words that an operator can act on; the validator's own never get out."""

import types
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Annotated, Any, Final, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from otrta_core import OtrtaError

ROOT: Final = "callback_settings.otrta"
ENV_PREFIX: Final = "OTRTA_GATEWAY_"

_TYPES: Final = {
    "bool": "true or false",
    "dict": "a mapping",
    "model": "a mapping",
    "dataclass": "a mapping",
    "mapping": "a mapping",
    "list": "a list",
    "tuple": "a list",
    "set": "a list",
}


class SettingsError(OtrtaError):
    """A setting is missing or wrong; the message names its key and the fix."""

    code = "settings_invalid"
    http_status = 500


def name_of(path: Sequence[str | int], from_environment: str | None = None) -> str:
    """Name a setting where its operator finds it.

    Args:
        path: its keys, outermost first.
        from_environment: the variable that gave it, or None for the config.
    """
    key = ".".join([ROOT, *map(str, path)])
    return key if from_environment is None else f"{from_environment} ({key})"


def sentence(model: type[BaseModel], error: ErrorDetails, from_environment: str | None = None) -> str:
    """Say what is wrong and what is right, on one line, without showing the value: it may be a secret.

    Args:
        model: of the settings.
        error: the validator's.
        from_environment: the variable that gave the value, or None for the config.
    """
    path = [part for part in error["loc"] if part != "[key]"]
    name, kind = name_of(path, from_environment), error["type"]
    if kind == "extra_forbidden":
        return f"{name} is no setting: {_hint(model, path)}"
    if kind == "missing":
        return f"{name} is missing: set it{_to(model, path)}"
    if error.get("input", ...) is None:
        return f"{name} is empty: give it a value{_to(model, path)}, or take the line out"
    if kind in ("value_error", "assertion_error"):
        return f"{name}: {error['msg'].partition(', ')[2]}"
    return f"{name} must be {_wanted(model, path, error)}"


def _hint(model: type[BaseModel], path: Sequence[str | int]) -> str:
    holder = _model_at(model, path[:-1])
    known = list(holder.model_fields) if holder else []
    near = get_close_matches(str(path[-1]).lower(), known, n=1)
    if near:
        return f"did you mean {near[0]}?"
    return f"there are {', '.join(sorted(known))}" if len(known) < 12 else "docs/gateway.md lists all"


def _to(model: type[BaseModel], path: Sequence[str | int]) -> str:
    field = _field_at(model, path)
    return f" to {field.description}" if field and field.description else ""


def _wanted(model: type[BaseModel], path: Sequence[str | int], error: ErrorDetails) -> str:
    field, kind = _field_at(model, path), error["type"]
    if kind in ("enum", "literal_error"):
        return str(error["ctx"]["expected"]).replace("'", "")
    if field is not None and field.description:
        return field.description
    if field is not None and (numbers := _range(field)):
        return f"a whole number {numbers}"
    if kind.startswith(("int", "greater", "less", "finite", "multiple")):
        return "a whole number"
    return _TYPES.get(kind.partition("_")[0], "a text" if kind.startswith("string") else "written otherwise")


def _range(field: FieldInfo) -> str:
    """Return the bounds of a number, or nothing where it has none."""
    least = next((each.ge for each in field.metadata if hasattr(each, "ge")), None)
    most = next((each.le for each in field.metadata if hasattr(each, "le")), None)
    if least is None and most is None:
        return ""
    return f"from {least}" + ("" if most is None else f" to {most}") if least is not None else f"up to {most}"


def _field_at(model: type[BaseModel], path: Sequence[str | int]) -> FieldInfo | None:
    holder = _model_at(model, path[:-1]) if path else None
    return holder.model_fields.get(str(path[-1])) if holder else None


def _model_at(model: type[BaseModel], path: Sequence[str | int]) -> type[BaseModel] | None:
    """Follow keys into nested models; None where the way leads through something else."""
    found: type[BaseModel] | None = model
    for part in path:
        if isinstance(part, int):
            continue  # the place in a list, whose items are all alike
        field = found.model_fields.get(str(part)) if found else None
        found = _model_in(field.annotation) if field else None
    return found


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """Return the one model that an annotation may hold."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (Union, types.UnionType, Annotated, tuple, list):
        found = [model for each in get_args(annotation) if (model := _model_in(each))]
        return found[0] if len(found) == 1 else None
    return None
