"""The repository keeps what it promises to whoever clones it."""

import importlib.metadata
import json
import os
import re
import socket
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())

# Put together here, so that this file does not name what it looks for.
MACHINE_PATHS = ["/".join(["", name, ""]) for name in ("root", "work")] + ["/".join(["", "tmp", "bash_jobs"])]
PACKAGE_HOSTS = ["python" + "hosted", "pypi.org/" + "simple", "registry." + "npmjs", "deb." + "debian"]
INDEX_SETTINGS = ["index" + "-url", "find" + "-links"]


def files() -> list[Path]:
    """All files that git has or would take; without git, all outside hidden directories."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        found = subprocess.run(listing, cwd=ROOT, capture_output=True, check=True, text=True).stdout.split(
            "\0"
        )
    except (OSError, subprocess.CalledProcessError):
        hidden = re.compile(r"(^|/)(\.(?!ci/)|__pycache__)")
        paths = (path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*"))
        found = [path for path in paths if not hidden.search(path)]
    return [ROOT / name for name in found if name and (ROOT / name).is_file()]


def pins(name: str) -> dict[str, str]:
    """The versions that a constraints file gives for this interpreter, by canonical name."""
    lines = (ROOT / name).read_text().splitlines()
    requirements = [Requirement(line) for line in lines if line and not line.startswith("#")]
    applying = [each for each in requirements if each.marker is None or each.marker.evaluate()]
    return {canonicalize_name(each.name): str(each.specifier).removeprefix("==") for each in applying}


def test_no_file_names_a_path_of_one_machine_or_a_place_to_download_from() -> None:
    unwanted = re.compile("|".join(map(re.escape, MACHINE_PATHS + PACKAGE_HOSTS + INDEX_SETTINGS)))
    found = []
    for path in files():
        try:
            lines = path.read_text().splitlines()
        except UnicodeDecodeError:
            continue
        found += [
            f"{path.relative_to(ROOT)}:{n}: {line}"
            for n, line in enumerate(lines, 1)
            if unwanted.search(line)
        ]
    assert found == []


def test_ci_runs_only_commands_that_the_readme_gives() -> None:
    lines = [line.strip() for line in (ROOT / ".ci/run").read_text().splitlines()]
    commands = [line for line in lines if line and not line.startswith(("#", "set ", "cd "))]
    given = [line.split("#")[0].strip() for line in (ROOT / "README.md").read_text().splitlines()]
    assert commands
    assert [command for command in commands if command not in given] == []


def test_ci_can_be_run_and_stops_at_the_first_failure() -> None:
    assert os.access(ROOT / ".ci/run", os.X_OK)
    assert "set -euo pipefail" in (ROOT / ".ci/run").read_text().splitlines()


def test_the_examples_in_config_parse() -> None:
    names = set()
    for path in sorted((ROOT / "config").iterdir()):
        text = path.read_text()
        names.add(path.name)
        if path.suffix == ".toml":
            assert tomllib.loads(text), path
        elif path.suffix in (".yaml", ".yml"):
            assert isinstance(yaml.safe_load(text), dict), path
        else:
            assert path.suffix == ".env", f"{path} is of a kind that this test cannot read"
            settings = [line for line in text.splitlines() if line and not line.startswith("#")]
            assert settings, path
            assert [line for line in settings if not re.fullmatch(r"[A-Z][A-Z0-9_]*=.*", line)] == [], path
    assert {"litellm.yaml", "client.toml", "mint.env", "demo.env"} <= names


def test_the_installed_version_is_that_of_the_project() -> None:
    assert importlib.metadata.version("otrta") == PYPROJECT["project"]["version"]


@pytest.mark.parametrize(
    ("constraints", "extras", "groups"),
    [("constraints.txt", ["gateway", "client", "postgres"], ["dev"]), ("constraints-mint.txt", ["mint"], [])],
)
def test_every_declared_requirement_has_a_pin_that_satisfies_it(
    constraints: str, extras: list[str], groups: list[str]
) -> None:
    declared = list(PYPROJECT["project"]["dependencies"])
    for extra in extras:
        declared += PYPROJECT["project"]["optional-dependencies"][extra]
    for group in groups:
        declared += PYPROJECT["dependency-groups"][group]
    pinned = pins(constraints)
    wrong = []
    for requirement in map(Requirement, declared):
        version = pinned.get(canonicalize_name(requirement.name))
        if version is None or not requirement.specifier.contains(version):
            wrong.append(f"{requirement}: pinned to {version}; run `make constraints`")
    assert wrong == []


def test_the_wallet_installs_and_imports_beside_the_mint(tmp_path: Path) -> None:
    python = os.environ.get("OTRTA_MINT_PYTHON") or ROOT / ".venv-mint/bin/python"
    code = "import cashu.mint, otrta_core, otrta_wallet"
    result = subprocess.run([python, "-I", "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1"])
def test_a_test_cannot_connect_to_another_machine(host: str) -> None:
    with pytest.raises(OSError, match="tests have no network"):
        socket.create_connection((host, 443), timeout=1)


def test_a_test_cannot_look_up_a_name() -> None:
    with pytest.raises(socket.gaierror, match="tests have no network"):
        socket.getaddrinfo("example.invalid", 443)


def test_the_npm_packages_are_pinned_by_digest_and_by_no_place() -> None:
    lock = json.loads((ROOT / "tests/interop/package-lock.json").read_text())
    packages = {name: fields for name, fields in lock["packages"].items() if name}
    assert "node_modules/@cashu/cashu-ts" in packages
    assert [name for name, fields in packages.items() if "integrity" not in fields] == []
    assert [name for name, fields in packages.items() if "resolved" in fields] == []
