"""Fuzzes the readers of otrta_core, guided by the code that an input reaches.

    pip install atheris
    python scripts/fuzz.py SECONDS [FOLDER]

atheris has no wheels for every Python, so it is no development dependency; what it found is kept in
tests/otrta_core/data/fuzz and replayed by the tests. The inputs are kept in FOLDER, a new temporary one by
default. When time is up the corpus is reduced to one input for each piece of code reached and written there.
An input that breaks a target is written to that place too, so that the tests fail until it is mended.
"""

import base64
import hashlib
import json
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
LONGEST = 4096
KEPT_BYTES = 1500
"""Longer inputs are not kept with the tests: the seeds already show what long ones look like."""


def fuzz_forever(arguments: list[str]) -> None:
    """Run libFuzzer with its own arguments; does not return."""
    import atheris

    with atheris.instrument_imports(include=["otrta_core", "json"]):
        from tests.otrta_core.fuzz_targets import TARGETS

    targets = list(TARGETS.values())

    def one(data: bytes) -> None:
        if data:
            targets[data[0] % len(targets)](data[1:])

    # libFuzzer starts itself again for each input that it merges, by this text in a shell
    itself = shlex.join([sys.executable, __file__, "--libfuzzer"])
    atheris.Setup([itself, *arguments], one)
    atheris.Fuzz()


def run(*arguments: str) -> int:
    """Run libFuzzer in a process of its own and return its exit code."""
    return subprocess.run([sys.executable, __file__, "--libfuzzer", *arguments], check=False).returncode


def plant(folder: Path) -> None:
    """Write the seeds and what was kept before."""
    from tests.otrta_core.fuzz_targets import TARGETS, corpus, seeds

    for number, name in enumerate(TARGETS):
        for data in [*seeds(name), *corpus(name)]:
            whole = bytes([number]) + data
            (folder / hashlib.sha256(whole).hexdigest()[:20]).write_bytes(whole)


def keep(folders: list[Path]) -> None:
    """Write the inputs of ``folders`` to the tests' data, by target."""
    from tests.otrta_core.fuzz_targets import CORPUS, TARGETS, seeds

    names = list(TARGETS)
    found: dict[str, set[bytes]] = {name: set() for name in names}
    for path in (path for folder in folders for path in sorted(folder.iterdir())):
        data = path.read_bytes()
        if 1 < len(data) <= KEPT_BYTES or (data and "crash" in path.name):
            found[names[data[0] % len(names)]].add(data[1:])
    for name, inputs in found.items():
        texts = sorted(base64.b64encode(data).decode() for data in inputs - set(seeds(name)))
        (CORPUS / f"{name}.json").write_text(json.dumps(texts, indent=1) + "\n")
        print(f"{name}: {len(texts)} inputs, {sum(map(len, texts))} characters")


def main(seconds: int, folder: Path) -> int:
    """Fuzz, reduce, keep; returns libFuzzer's exit code: not 0 where a target broke."""
    inputs, crashes, reduced = (folder / name for name in ("inputs", "crashes", "reduced"))
    for place in (inputs, crashes, reduced):
        place.mkdir(parents=True, exist_ok=True)
    plant(inputs)
    code = run(
        str(inputs), f"-max_total_time={seconds}", f"-max_len={LONGEST}", "-timeout=5", "-rss_limit_mb=2048",
        f"-artifact_prefix={crashes}/", "-print_final_stats=1",
    )  # fmt: skip
    run("-merge=1", str(reduced), str(inputs))
    keep([reduced, crashes])
    return code


if __name__ == "__main__":
    if sys.argv[1:2] == ["--libfuzzer"]:
        fuzz_forever(sys.argv[2:])
    elif len(sys.argv) in (2, 3) and sys.argv[1].isdigit():
        where = Path(sys.argv[2] if len(sys.argv) == 3 else tempfile.mkdtemp(prefix="otrta-fuzz-"))
        sys.exit(main(int(sys.argv[1]), where))
    else:
        sys.exit(__doc__)
