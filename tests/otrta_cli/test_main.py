"""`otrta` starts fast, and says on one line what went wrong."""

import subprocess
import sys
from types import ModuleType
from typing import Any

import click
import pytest

from otrta_cli.lazy import LazyCommand
from otrta_cli.main import _EXTRAS, COMMANDS, main, otrta
from otrta_core.errors import AmountError

HEAVY = {"pydantic", "httpx", "sqlalchemy", "coincurve", "rich", "trio", "anyio", "litellm", "otrta_core"}


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Puts a command `fail` into `otrta` that raises the error given, and runs it."""

    def run(error: BaseException) -> int:
        module = ModuleType("module_of_a_failing_command")

        @click.command()
        def fail() -> None:
            raise error

        module.fail = fail  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setattr(otrta, "lazy", {"fail": LazyCommand(f"{module.__name__}:fail", "Fail.")})
        return main(["fail"])

    monkeypatch.delenv("OTRTA_DEBUG", raising=False)
    return run


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from otrta_cli.main import main; main(['--help']); "
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert HEAVY & set(shown.splitlines()[-1].split()) == set()


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_help_lists_every_command_with_what_it_does(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert [
        line for line in (f"{name} {each.summary}" for name, each in COMMANDS.items()) if line not in lines
    ] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_in_the_table_is_there_and_explains_itself(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([name, "--help"]) == 0
    assert f"Usage: otrta {name} " in capsys.readouterr().out


def test_the_version_is_that_of_the_distribution(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("otrta, version ")


@pytest.mark.parametrize(
    "arguments", [["no-such-command"], ["--no-such-option"], ["demo", "--mint-port", "0"]]
)
def test_wrong_usage_is_one_line_on_stderr_and_exit_code_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1
    assert captured.err.startswith("otrta: ")
    assert "--help`" in captured.err


def test_an_error_of_ours_is_its_message_and_exit_code_1(
    failing: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert failing(AmountError("ten is not a number")) == 1
    assert capsys.readouterr().err == "otrta: ten is not a number\n"


def test_an_error_of_ours_is_found_among_those_that_a_nursery_raised(
    failing: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    nested = ExceptionGroup("", [ValueError("x"), ExceptionGroup("", [AmountError("too much")])])
    assert failing(ExceptionGroup("", [nested])) == 1
    assert capsys.readouterr().err == "otrta: too much\n"


def test_debugging_shows_where_it_was_raised(
    failing: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTRTA_DEBUG", "1")
    assert failing(AmountError("ten is not a number")) == 1
    shown = capsys.readouterr().err
    assert "Traceback (most recent call last)" in shown
    assert shown.endswith("otrta: ten is not a number\n")


def test_the_text_of_an_unforeseen_error_is_not_shown_since_it_may_hold_a_token(
    failing: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert failing(KeyError("cashuBsecret")) == 1
    assert (
        capsys.readouterr().err == "otrta: an error in otrta itself (KeyError); OTRTA_DEBUG=1 shows where\n"
    )


@pytest.mark.parametrize(
    ("module", "extra"),
    [("trio", "client"), ("hypercorn.config", "client"), ("litellm", "gateway"), ("psycopg", "postgres")],
)
def test_a_missing_extra_is_named(
    failing: Any, module: str, extra: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert failing(ModuleNotFoundError(f"No module named {module!r}", name=module)) == 1
    assert capsys.readouterr().err.endswith(f"which is not installed: pip install 'otrta[{extra}]'\n")


@pytest.mark.parametrize("error", [KeyboardInterrupt(), BaseExceptionGroup("", [KeyboardInterrupt()])])
def test_ctrl_c_is_no_traceback(
    failing: Any, error: BaseException, capsys: pytest.CaptureFixture[str]
) -> None:
    assert failing(error) == 1
    assert capsys.readouterr().err.strip() == "otrta: stopped before it was done"


def test_a_command_that_exits_with_a_code_gives_that_code(failing: Any) -> None:
    assert failing(click.exceptions.Exit(3)) == 3


WITHOUT_EXTRAS = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in %r:
            raise ModuleNotFoundError(name=name)

sys.meta_path.insert(0, Missing())
from otrta_cli.main import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("command", ["gateway balance", "gateway payout", "balance", "send", "decode"])
def test_a_command_loads_where_no_extra_is_installed(command: str) -> None:
    script = WITHOUT_EXTRAS % sorted(_EXTRAS)
    ran = subprocess.run(
        [sys.executable, "-c", script, *command.split(), "--help"], capture_output=True, text=True, timeout=60
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "--json" in ran.stdout
