"""Tools that a model may call. Only functions that the caller runs have a price: hosted tools bill apart."""

from collections.abc import Mapping
from typing import Any

from otrta_core.errors import InvalidRequest, UnsupportedParameter
from otrta_core.requests.fields import Check

_FUNCTION_KEYS = frozenset({"name", "description", "parameters", "strict"})
_ANTHROPIC_KEYS = frozenset(
    {"type", "name", "description", "input_schema", "input_examples", "strict", "cache_control"}
)


def check_tools(tools: object, is_sold: Check) -> None:
    """Refuse tools that are not functions.

    Raises:
        InvalidRequest: not a list of objects.
        UnsupportedParameter: a tool that ``is_sold`` does not know.
    """
    if tools is None:
        return
    if not isinstance(tools, list) or not all(isinstance(tool, Mapping) for tool in tools):
        raise InvalidRequest("tools must be a list of objects", param="tools")
    if not all(map(is_sold, tools)):
        raise UnsupportedParameter("only tools of type function have a price here", param="tools")


def is_function_tool(tool: Mapping[str, Any]) -> bool:
    """Tell whether this is a chat completion's function tool."""
    # by any other key LiteLLM takes a tool for one that the upstream hosts, and bills apart
    return (
        tool.keys() <= {"type", "function", "cache_control"}
        and tool.get("type") == "function"
        and is_function(tool.get("function"))
    )


def is_flat_function_tool(tool: Mapping[str, Any]) -> bool:
    """Tell whether this is a Responses function tool, which has no inner object."""
    return tool.get("type") == "function" and is_function({k: v for k, v in tool.items() if k != "type"})


def is_anthropic_tool(tool: Mapping[str, Any]) -> bool:
    """Tell whether this is an Anthropic tool that the caller defines and runs."""
    return (
        tool.keys() <= _ANTHROPIC_KEYS
        and tool.get("type") in (None, "custom")
        and isinstance(tool.get("name"), str)
    )


def is_function(function: object) -> bool:
    """Tell whether this describes a function."""
    return (
        isinstance(function, Mapping)
        and isinstance(function.get("name"), str)
        and function.keys() <= _FUNCTION_KEYS
    )


def are_functions(functions: object) -> bool:
    """Tell whether this is a list of functions, as chat completions had them before tools."""
    return isinstance(functions, list) and all(map(is_function, functions))


def is_tool_choice(value: object) -> bool:
    """Tell whether this chooses among a chat completion's function tools."""
    if isinstance(value, str):
        return value in ("auto", "none", "required")
    return isinstance(value, Mapping) and value.keys() == {"type", "function"} and value["type"] == "function"


def is_flat_tool_choice(value: object) -> bool:
    """Tell whether this chooses among a Responses call's function tools."""
    if isinstance(value, str):
        return value in ("auto", "none", "required")
    return isinstance(value, Mapping) and value.keys() == {"type", "name"} and value["type"] == "function"


def is_anthropic_tool_choice(value: object) -> bool:
    """Tell whether this chooses among an Anthropic call's tools."""
    return (
        isinstance(value, Mapping)
        and value.keys() <= {"type", "name", "disable_parallel_tool_use"}
        and value.get("type") in ("auto", "any", "tool", "none")
    )


def is_function_choice(value: object) -> bool:
    """Tell whether this chooses among functions, as chat completions did before tools."""
    return isinstance(value, str) or (isinstance(value, Mapping) and value.keys() == {"name"})
