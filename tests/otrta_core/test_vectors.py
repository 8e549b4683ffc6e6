"""No published vector is left out: how many there are of each, counted in the specifications."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.otrta_core.vectors import load

HERE = Path(__file__).parent
COUNTS: dict[str, dict[str, int]] = {
    "00": {
        "hash_to_curve": 3,
        "blinded_messages": 2,
        "blind_signatures": 2,
        "v3": 2,
        "v3_invalid": 2,
        "v3_valid": 1,
        "v3_padding": 2,
        "v4_single_keyset": 2,
        "v4_multiple_keysets": 2,
        "v4_raw": 2,
    },
    "01": {"invalid": 2, "valid": 2},
    "02": {"v1": 2, "v2": 3},
    "11": {"proofs": 9, "swaps": 5, "htlc_swaps": 3, "melts": 3},
    "12": {"hash_e": 5, "deterministic": 6, "blind_signature": 3, "proof": 2},
    "13": {"v1": 4, "v2": 3},
    "18": {"requests": 6},
    "20": {"valid": 3, "invalid": 3},
    "28": {"r": 11, "blinded": 11, "standard": 11, "negated": 11, "proof": 6},
    "29": {"batch": 3, "check_unknown": 2, "invalid": 5, "signed": 6},
}


def groups(data: dict[str, Any]) -> dict[str, int]:
    return {name: len(value) for name, value in data.items() if isinstance(value, list | dict)}


@pytest.mark.parametrize("nut", COUNTS)
def test_every_published_vector_is_here(nut: str) -> None:
    assert groups(load(nut)) == COUNTS[nut]


def test_the_derivations_are_five_each_and_the_backup_key_is_one() -> None:
    assert [len(load("13")[version]["derived"]) for version in ("v1", "v2")] == [5, 5]
    assert set(load("27")) == {"source", "mnemonic", "domain_separator", "secret_key", "public_key"}


def test_every_file_of_vectors_names_its_source_and_is_used() -> None:
    sources = "".join(
        path.read_text() for path in sorted(HERE.glob("test_*.py")) if path.name != Path(__file__).name
    )
    for path in sorted((HERE / "data").glob("nut*.json")):
        assert json.loads(path.read_text())["source"].endswith(("-tests.md", "-test.md")), path
        assert f'load("{path.stem[3:]}")' in sources, path
