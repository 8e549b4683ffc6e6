"""What docs/gateway.md and the examples in config/ tell an operator is so."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from otrta_cli.gateway_commands import gateway
from otrta_cli.litellm_config import read_config
from otrta_core import ModelPrice
from otrta_core.requests import PAYABLE_PATHS
from otrta_litellm.admin import ADMIN
from otrta_litellm.desk import ACTIONS
from otrta_litellm.settings import GatewaySettings, load_settings
from otrta_litellm.way import METRICS

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/gateway.md").read_text("utf-8")
ROWS = re.findall(r"^\| `([a-z_.]+)` \| ([^|]+) \| ", PAGE, re.MULTILINE)
BLOCKS = re.findall(r"```yaml\n(callback_settings:.*?)```", PAGE, re.DOTALL)
EXAMPLES = sorted((ROOT / "config").glob("litellm*.yaml"))
ENVIRON = {
    "OTRTA_GATEWAY_STORE": "postgresql://otrta@db/otrta",
    "OTRTA_MINTS": "https://mint.example",
    "OTRTA_UPSTREAM_URL": "http://127.0.0.1:4010/v1",
    "LITELLM_MASTER_KEY": "sk-x",
}
PARTS = {"btc_usd", "payout"}
"""Settings that have settings of their own in the table."""


def settings(model: type[BaseModel] = GatewaySettings, path: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """All settings that the page has a row for, by their path."""
    for name, field in model.model_fields.items():
        if not path and name in PARTS:
            if name == "btc_usd":
                yield name, field
            inner = next(t for t in walk(field.annotation) if issubclass(t, BaseModel))
            yield from settings(inner, f"{name}.")
        else:
            yield path + name, field


def walk(annotation: Any) -> Iterator[type]:
    """The classes in an annotation."""
    if isinstance(annotation, type):
        yield annotation
    for inner in getattr(annotation, "__args__", ()):
        yield from walk(inner)


def shown(field: FieldInfo) -> str:
    """A default as the page shows it."""
    if field.is_required():
        return "needed"
    if field.default is None:
        return "none"
    return f"`{json.dumps(list(field.default) if isinstance(field.default, tuple) else field.default)}`"


def test_every_setting_has_its_row_with_its_default() -> None:
    assert dict(ROWS) == {path: shown(field) for path, field in settings()}
    assert len(ROWS) == len(dict(ROWS))


def test_the_prices_keys_are_all_named() -> None:
    section = PAGE.partition("## Prices")[2].partition("```")[0]
    assert set(ModelPrice.__dataclass_fields__) <= set(re.findall(r"`([a-z_]+)`", section))


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_the_settings_that_it_shows_are_taken(block: str) -> None:
    assert load_settings(yaml.safe_load(block)["callback_settings"]["otrta"], {})


def test_what_it_says_is_sold_is_sold() -> None:
    told = re.search(r"^Sold: (.*)\.$", PAGE, re.MULTILINE)
    assert told is not None
    paths = set(re.findall(r"`(/v1/[\w/]+)`", told[1]))
    assert paths == {path for path in PAYABLE_PATHS if path.startswith("/v1/")}


def test_the_commands_and_options_that_it_names_exist() -> None:
    lines = re.findall(r"otrta gateway ([a-z]+)([^`\n]*)", PAGE)
    assert {name for name, _ in lines} == set(gateway.commands)
    for name, rest in lines:
        known = {option for p in gateway.commands[name].params for option in p.opts}
        assert set(re.findall(r"--[a-z-]+", rest.partition("#")[0])) <= known, name


def test_the_operators_routes_that_it_names_are_those() -> None:
    told = PAGE.partition(f"`GET {ADMIN}")[2].partition(".\n")[0]
    assert set(re.findall(r"(?:^|`)([a-z]+(?:/[a-z]+)?)`", told)) == set(ACTIONS)


def test_the_figures_that_it_names_are_there() -> None:
    source = (ROOT / "otrta_litellm/metrics.py").read_text("utf-8")
    named = set(re.findall(r"`(otrta_[a-z_]+)`", PAGE))
    assert len(named) >= 3
    assert [name for name in named if f'"{name.removesuffix("_total")}"' not in source] == []
    assert METRICS in PAGE


def test_the_files_that_it_names_exist() -> None:
    named = set(re.findall(r"\]\(([\w./-]+)\)", PAGE))
    assert len(named) >= 5
    assert [name for name in named if not (ROOT / "docs" / name).exists()] == []
    for name in re.findall(r"(?:config|deploy)/[\w./-]+\w", PAGE):
        assert (ROOT / name).exists() or name == "deploy/secrets", name


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_the_examples_are_configs_that_start(path: Path) -> None:
    config = read_config(path, ENVIRON)
    found = load_settings(config.otrta, {})
    assert config.litellm["callbacks"] == ["otrta_litellm.plugin.handler"]
    assert config.general["master_key"] == "sk-x"
    assert config.models
    named = {model["model_name"] for model in config.models}
    assert found.btc_usd is not None or named <= set(found.prices)
    assert set(found.prices) <= named


def test_the_examples_are_the_three_that_the_page_shows() -> None:
    names = {path.name for path in EXAMPLES} - {"litellm.yaml"}
    assert names == set(re.findall(r"config/(litellm-[a-z]+\.yaml)\)", PAGE))


def test_the_readme_leads_to_it() -> None:
    assert "](docs/gateway.md)" in (ROOT / "README.md").read_text("utf-8")
