"""The versions of LiteLLM that the package asks for are those that it was tried on."""

import tomllib
from importlib.metadata import version
from pathlib import Path

from packaging.requirements import Requirement

TRIED = ("1.106.0", "1.106.2")
"""The oldest was tried by hand: a 402, a plain and a streamed call with exact change, a key, a refund."""


def wanted() -> Requirement:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    found = [Requirement(line) for line in project["optional-dependencies"]["gateway"]]
    return next(each for each in found if each.name == "litellm")


def test_the_range_holds_what_was_tried_and_what_the_tests_run_on() -> None:
    assert "proxy" in wanted().extras
    assert all(wanted().specifier.contains(each) for each in TRIED)
    assert wanted().specifier.contains(version("litellm"))


def test_it_holds_no_other_minor_version_and_none_that_was_compromised() -> None:
    for other in ("1.105.9", "1.107.0", "1.108.0", "2.0.0"):
        assert not wanted().specifier.contains(other)
