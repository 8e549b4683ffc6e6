import hashlib
from typing import Any

import pytest

from otrta_core import (
    KeysetError,
    backup_public_key,
    derive_backup_key,
    derive_blinding_factor,
    derive_secret,
)
from tests.otrta_core.vectors import load

NUT13, NUT27 = load("13"), load("27")
V1_ID, V2_ID = NUT13["v1"]["keyset_id"], NUT13["v2"]["keyset_id"]


def seed_of(mnemonic: str) -> bytes:
    return hashlib.pbkdf2_hmac("sha512", mnemonic.encode(), b"mnemonic", 2048)


SEED = seed_of(NUT13["v1"]["mnemonic"])


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_the_published_secrets_and_blinding_factors_are_derived(version: str) -> None:
    vector: dict[str, Any] = NUT13[version]
    seed = seed_of(vector["mnemonic"])
    for row in vector["derived"]:
        assert derive_secret(seed, vector["keyset_id"], row["counter"]) == row["secret"]
        assert derive_blinding_factor(seed, vector["keyset_id"], row["counter"]).hex() == row["r"]


def test_the_published_paths_name_the_keyset_by_its_number() -> None:
    v1 = NUT13["v1"]
    assert int(V1_ID, 16) % (2**31 - 1) == v1["keyset_number"]
    assert [row["path"] for row in v1["derived"]] == [
        f"m/129372'/0'/{v1['keyset_number']}'/{row['counter']}'" for row in v1["derived"]
    ]


@pytest.mark.parametrize("keyset_id", [V1_ID, V2_ID])
def test_every_counter_seed_and_kind_gives_another_value(keyset_id: str) -> None:
    values = {
        value
        for seed in (SEED, bytes(64))
        for counter in range(20)
        for value in (
            derive_secret(seed, keyset_id, counter),
            derive_blinding_factor(seed, keyset_id, counter).hex(),
        )
    }
    assert len(values) == 2 * 20 * 2


@pytest.mark.parametrize(("keyset_id", "last"), [(V1_ID, 2**31 - 1), (V2_ID, 2**64 - 1)])
def test_a_counter_past_the_last_is_refused_and_never_wraps_round(keyset_id: str, last: int) -> None:
    assert derive_secret(SEED, keyset_id, last) != derive_secret(SEED, keyset_id, 0)
    for counter in (last + 1, -1):
        with pytest.raises(KeysetError, match="out of range"):
            derive_secret(SEED, keyset_id, counter)
        with pytest.raises(KeysetError, match="out of range"):
            derive_blinding_factor(SEED, keyset_id, counter)


@pytest.mark.parametrize(
    "keyset_id", ["", "00", V2_ID[:16], "02" + V1_ID[2:], "02" + V2_ID[2:], "not hex at all"]
)
def test_a_keyset_id_that_is_not_a_full_known_one_is_refused(keyset_id: str) -> None:
    with pytest.raises(KeysetError, match="keyset ids"):
        derive_secret(SEED, keyset_id, 0)


@pytest.mark.parametrize("seed", [b"", b"half deposit fabric", SEED[:32], SEED + b"\0"], ids=len)
@pytest.mark.parametrize("keyset_id", [V1_ID, V2_ID])
def test_what_is_not_a_seed_derives_nothing(seed: bytes, keyset_id: str) -> None:
    for derive in (derive_secret, derive_blinding_factor):
        with pytest.raises(ValueError, match="64 bytes"):
            derive(seed, keyset_id, 0)
    with pytest.raises(ValueError, match="64 bytes"):
        derive_backup_key(seed)


def test_the_published_backup_key_is_derived() -> None:
    key = derive_backup_key(seed_of(NUT27["mnemonic"]))
    assert key.hex() == NUT27["secret_key"]
    assert backup_public_key(key) == NUT27["public_key"]


def test_another_seed_has_another_backup_key() -> None:
    assert derive_backup_key(SEED) != derive_backup_key(bytes(64))


@pytest.mark.parametrize("key", [b"", bytes(32), b"\xff" * 32, b"\x01" * 33])
def test_a_backup_key_that_is_no_scalar_is_refused(key: bytes) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        backup_public_key(key)
