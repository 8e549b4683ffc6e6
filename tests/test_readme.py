"""What the README shows is run."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")


def test_the_core_example_holds() -> None:
    examples = [
        code for code in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "otrta_core" in code
    ]
    assert len(examples) == 1
    assert "assert" in examples[0]
    exec(compile(examples[0], "README.md", "exec"), {})


def test_every_file_it_names_exists() -> None:
    named = set(re.findall(r"`((?:config|docs|bench)/[\w./-]*)`", README))
    named |= set(re.findall(r"\]\(([\w./-]+)\)", README))
    assert named
    missing = sorted(name for name in named if not (ROOT / name).exists())
    assert missing == []


def test_every_command_it_names_exists() -> None:
    from otrta_cli.main import COMMANDS

    named = set(re.findall(r"otrta ([a-z]+)", README))
    assert {"serve", "invoice", "recover"} <= named
    assert sorted(named - set(COMMANDS)) == []
