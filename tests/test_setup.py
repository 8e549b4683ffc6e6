"""scripts/setup.py makes environments anew exactly when they cannot be trusted."""

import importlib.util
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent
PYPROJECT = """
[build-system]
requires = ["hatchling"]
[project]
name = "otrta"
dependencies = ["httpx"]
[tool.hatch]
[tool.ruff]
line-length = 110
"""


@pytest.fixture
def setup() -> ModuleType:
    spec = importlib.util.spec_from_file_location("otrta_setup_script", ROOT / "scripts/setup.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def commands(setup: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The commands that set-up gave, none of which is run; every interpreter counts as usable."""
    given: list[str] = []
    monkeypatch.setattr(setup, "run", lambda *command: given.append(" ".join(map(str, command))))
    monkeypatch.setattr(setup, "runs", lambda python, code: True)
    return given


@pytest.fixture
def pyproject(tmp_path: Path) -> Path:
    path = tmp_path / "pyproject.toml"
    path.write_text(PYPROJECT)
    return path


def environment_in(setup: ModuleType, directory: Path, stamp: str | None):
    """An environment with one installed file and this stamp."""
    (directory / "lib").mkdir(parents=True)
    (directory / "lib/installed").touch()
    pins = directory.parent / "constraints.txt"
    pins.write_text("httpx==0.28.1\n")
    environment = setup.Environment(directory, pins)
    if stamp is not None:
        environment.stamp.write_text(stamp)
    return environment


def test_the_fingerprint_follows_pins_requirements_and_place_only(
    setup: ModuleType, tmp_path: Path, pyproject: Path
) -> None:
    environment = environment_in(setup, tmp_path / ".venv", None)
    before = setup.fingerprint(environment, pyproject)

    pyproject.write_text(PYPROJECT.replace("110", "100"))
    assert setup.fingerprint(environment, pyproject) == before
    pyproject.write_text(PYPROJECT.replace('"httpx"', '"httpx", "click"'))
    assert setup.fingerprint(environment, pyproject) != before
    pyproject.write_text(PYPROJECT)
    moved = setup.Environment(tmp_path / "elsewhere" / ".venv", environment.pins)
    assert setup.fingerprint(moved, pyproject) != before
    environment.pins.write_text("httpx==0.28.2\n")
    assert setup.fingerprint(environment, pyproject) != before


@pytest.mark.parametrize("stamp", ["unfinished", "another-checkout/.venv\n0123\n"])
def test_an_unfinished_or_moved_environment_is_emptied_and_made_anew(
    setup: ModuleType, commands: list[str], tmp_path: Path, stamp: str
) -> None:
    environment = environment_in(setup, tmp_path / ".venv", stamp)
    setup.begin(environment)
    assert [entry.name for entry in environment.directory.iterdir()] == ["otrta-setup"]
    assert len(commands) == 1
    assert commands[0].endswith(f"-m venv {environment.directory}")


@pytest.mark.parametrize("finished", [True, False], ids=["older pins", "made by hand"])
def test_a_usable_environment_is_kept_and_marked_until_it_is_finished(
    setup: ModuleType, commands: list[str], tmp_path: Path, finished: bool
) -> None:
    directory = tmp_path / ".venv"
    environment = environment_in(setup, directory, f"{directory}\n0123\n" if finished else None)
    setup.begin(environment)
    assert (directory / "lib/installed").exists()
    assert commands == []
    assert environment.stamped() == setup.UNFINISHED


def test_an_environment_whose_interpreter_is_gone_is_made_anew(
    setup: ModuleType, commands: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(setup, "runs", lambda python, code: False)
    setup.begin(environment_in(setup, tmp_path / ".venv", f"{tmp_path / '.venv'}\n0123\n"))
    assert len(commands) == 1


def test_pip_installs_what_uv_could_not(
    setup: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given = []

    def run(*command: str | Path) -> None:
        given.append(command)
        if command[0] == Path("uv"):
            raise subprocess.CalledProcessError(1, command)

    monkeypatch.setattr(setup, "run", run)
    environment = environment_in(setup, tmp_path / ".venv", None)
    setup.install(environment, Path("uv"))
    assert [command[0] for command in given] == [Path("uv"), environment.python]
    assert given[1][1:4] == ("-m", "pip", "install")
    assert environment.pins in given[1]


def test_a_python_that_will_not_do_is_refused_in_a_sentence() -> None:
    result = subprocess.run(
        ["sh", ROOT / "scripts/setup.sh"],
        env={"PATH": "/usr/bin:/bin", "PYTHON": "false"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 1
    assert result.stderr == "set-up: PYTHON=false is not a Python 3.11, 3.12 or 3.13 with the venv module.\n"
