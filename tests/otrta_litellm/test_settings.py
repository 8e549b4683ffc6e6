"""Settings: one sentence for the first thing that is wrong, naming its key."""

import contextlib
import re
from collections.abc import Iterator
from decimal import Decimal
from math import nan
from pathlib import Path

import pytest
from pydantic import BaseModel

from otrta_core import ModelPrice, Unit
from otrta_litellm.rate_settings import BtcUsd
from otrta_litellm.rates import RateRules
from otrta_litellm.setting_faults import _model_in
from otrta_litellm.setting_sources import MAX_FILE_BYTES
from otrta_litellm.settings import GatewaySettings, SettingsError, load_settings, store_url

GOOD = {"store": "gateway", "mints": "https://a.example"}


def feed(**values: str) -> dict[str, object]:
    """The settings of one feed."""
    return {"btc_usd": {"feeds": [values]}}


def test_the_least_that_is_needed_is_a_store_and_a_mint() -> None:
    found = load_settings(GOOD, {})
    assert found.mints == ("https://a.example",)
    assert (found.unit, found.redeem, found.rounding) == (Unit.MSAT, "before", "up")
    assert (found.max_token_bytes, found.max_proofs) == (32_768, 64)
    assert (found.default_output_tokens, found.min_output_tokens, found.claim_days) == (1024, 16, 365)


@pytest.mark.parametrize(
    "mints",
    [
        "https://a.example/,https://B.example, https://a.example",
        ["https://a.example", "https://b.example/"],
        "https://a.example,https://b.example,",
    ],
)
def test_mints_are_a_list_or_a_text_with_commas(mints: object) -> None:
    found = load_settings(GOOD | {"mints": mints}, {})
    assert found.mints == ("https://a.example", "https://b.example")


def test_the_environment_stands_before_the_config() -> None:
    environ = {
        "OTRTA_GATEWAY_UNIT": "sat",
        "OTRTA_GATEWAY_MINTS": "https://c.example,https://d.example",
        "OTRTA_GATEWAY_MAX_PROOFS": "10",
        "OTRTA_GATEWAY_ALLOW_ZERO": "true",
        "OTHER": "x",
    }
    found = load_settings(GOOD, environ)
    assert (found.unit, found.max_proofs, found.allow_zero) == (Unit.SAT, 10, True)
    assert found.mints == ("https://c.example", "https://d.example")


def test_what_is_not_in_the_config_may_be_in_the_environment() -> None:
    environ = {"OTRTA_GATEWAY_STORE": "s", "OTRTA_GATEWAY_MINTS": "https://a.example"}
    assert load_settings(None, environ).store == "s"


def test_prices_are_of_whole_msat() -> None:
    found = load_settings(GOOD | {"prices": {"m": {"input_msat_per_mtok": 5, "request_msat": 1}}}, {})
    assert found.prices == {"m": ModelPrice(input_msat_per_mtok=5, request_msat=1)}


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"store": None}, "store is not set: set it there or as OTRTA_GATEWAY_STORE, to a directory, or"),
        ({"store": ""}, "store is not set"),
        ({"store": " "}, "store: give a directory or a database URL"),
        ({"store": 5}, "store must be a directory, or the SQLAlchemy URL of a database of its own"),
        ({"store": "mysql://a/b"}, "store: the database must be SQLite or PostgreSQL"),
        ({"store": "://"}, "store: this URL cannot be read"),
        ({"store": "sqlite://"}, "store: a store in memory would end with the process"),
        ({"mints": None}, "mints is not set: set it there or as OTRTA_GATEWAY_MINTS, to the URLs of mints"),
        ({"mints": []}, "mints: name at least one mint"),
        ({"mints": " , "}, "mints: name at least one mint"),
        ({"mints": {"a": "b"}}, "mints: give a list of URLs, or one text with commas between them"),
        ({"mints": [5]}, "mints: give a list of URLs"),
        ({"mints": "ftp://a.example"}, "mints: a mint's URL begins with https:// or http://"),
        ({"mints": "https://user:pass@a.example"}, "mints: a mint's URL has no user, query or fragment"),
        ({"unit": "usd"}, "unit must be msat or sat"),
        ({"unit": None}, "unit is empty: give it a value, or take the line out"),
        ({"redeem": "after"}, "redeem must be before"),
        ({"lock": "maybe"}, "lock must be off"),
        ({"margin": "-1"}, 'margin must be a fraction: "0.05" is five per cent'),
        ({"margin": "five"}, "margin must be a fraction"),
        ({"margin": True}, "margin must be a fraction"),
        ({"btc_usd": "100000"}, "btc_usd must be a mapping, such as {fixed:"),
        ({"btc_usd": {"fixed": "1e5"}}, "btc_usd.fixed must be dollars for a bitcoin"),
        ({"btc_usd": {"fixd": "1"}}, "btc_usd.fixd is no setting: did you mean fixed?"),
        ({"btc_usd": {}}, "btc_usd: set fixed to a rate such as"),
        ({"btc_usd": {"fixed": "0"}}, "btc_usd: fixed must be more than zero"),
        ({"btc_usd": {"fixed": "1", "every_s": 60}}, "btc_usd: a fixed rate needs no every_s"),
        ({"btc_usd": {"feeds": "all"}}, "btc_usd.feeds must be public, or a list of up to 20"),
        (feed(format="gemini"), "btc_usd.feeds.0.format must be kraken, coinbase or bitstamp"),
        (feed(fromat="kraken"), "btc_usd.feeds.0.fromat is no setting: did you mean format?"),
        (
            feed(format="kraken", url="http://feed.example/"),
            "btc_usd.feeds.0: a feed's url begins with https",
        ),
        (
            feed(format="kraken", url="https://u:p@a.example"),
            "btc_usd.feeds.0: a feed's url begins with https",
        ),
        (feed(format="kraken", url="file:///etc/passwd"), "btc_usd.feeds.0: a feed's url begins"),
        ({"btc_usd": {"feeds": "public", "min_feeds": 4}}, "btc_usd: min_feeds is more than the 3 feeds"),
        ({"btc_usd": {"feeds": "public", "max_jump": "1"}}, "btc_usd: max_jump must be a share"),
        ({"btc_usd": {"feeds": "public", "max_jump": "-0.1"}}, "btc_usd.max_jump must be a fraction"),
        (
            {"btc_usd": {"feeds": "public", "every_s": 400}},
            "btc_usd: max_age_s must be at least twice every_s",
        ),
        (
            {"btc_usd": {"feeds": "public", "max_age_s": 10}},
            "btc_usd.max_age_s must be a whole number from 120",
        ),
        ({"prices": [1]}, "prices: give a mapping of model names to prices"),
        ({"prices": {"m": 5}}, "prices: m: a price has one or more of the keys "),
        ({"prices": {"m": {}}}, "prices: m: a price has one or more of the keys "),
        ({"prices": {"m": {"input": 5}}}, "prices: m: a price has one or more of the keys "),
        (
            {"prices": {"m": {"input_msat_per_mtok": -5}}},
            "prices: m: input_msat_per_mtok must be a whole number",
        ),
        (
            {"prices": {"m": {"input_msat_per_mtok": 0.5}}},
            "prices: m: input_msat_per_mtok must be a whole number",
        ),
        ({"rounding": "nearest"}, "rounding must be up, down or stochastic"),
        ({"max_proofs": 0}, "max_proofs must be a whole number from 1 to 1000"),
        ({"max_token_bytes": "many"}, "max_token_bytes must be a whole number from 1024 to 1048576"),
        ({"claim_days": 0.5}, "claim_days must be a whole number from 1 to 36500"),
        ({"allow_zero": "perhaps"}, "allow_zero must be true or false"),
        ({"max_proof": 1}, "max_proof is no setting: did you mean max_proofs?"),
        ({"zzz": 1}, "zzz is no setting: docs/gateway.md lists all"),
    ],
)
def test_what_is_wrong_is_named_in_one_sentence_that_says_what_is_right(
    values: dict[str, object], sentence: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(GOOD | values, {})
    assert caught.value.message.startswith(f"callback_settings.otrta.{sentence}")
    assert "\n" not in caught.value.message
    assert caught.value.__context__ is None


def nested(model: type[BaseModel], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The paths of all settings, those inside others too."""
    for name, field in model.model_fields.items():
        yield (*path, name)
        inner = _model_in(field.annotation)
        if inner is not None:
            yield from nested(inner, (*path, name))


@pytest.mark.parametrize("path", list(nested(GatewaySettings)), ids=".".join)
def test_whatever_is_set_the_operator_reads_plain_words(path: tuple[str, ...]) -> None:
    said = []
    for value in (None, "", "hunter2", [], ["hunter2"], {}, {"hunter2": 1}, -1, 0.5, 10**30, True, nan):
        given: object = value
        for key in reversed(path[1:]):
            given = {key: given}
        with contextlib.suppress(SettingsError):
            load_settings(GOOD | {path[0]: given}, {})
            continue
        with pytest.raises(SettingsError) as caught:
            load_settings(GOOD | {path[0]: given}, {})
        said.append(caught.value.message)
    assert said
    assert [line for line in said if not line.startswith(f"callback_settings.otrta.{path[0]}")] == []
    unread = re.compile(
        "[Ii]nput should|[Vv]alid |pattern|dictionary|instance|[Ff]ield required|unable|permitted|otherwise"
    )
    assert [line for line in said if unread.search(line)] == []


def test_public_feeds_are_the_three_that_are_known() -> None:
    found = load_settings(GOOD | {"btc_usd": {"feeds": "public"}}, {}).btc_usd
    assert found is not None
    assert [feed.format for feed in found.feeds] == ["kraken", "coinbase", "bitstamp"]
    assert all(feed.address.startswith("https://") for feed in found.feeds)
    assert found.rules == RateRules(max_age_s=600, max_jump=Decimal("0.05"), min_feeds=2)


def test_feeds_of_ones_own_may_be_on_this_machine() -> None:
    feeds = [{"format": "kraken", "url": "http://127.0.0.1:9/x"}]
    found = load_settings(GOOD | {"btc_usd": {"feeds": feeds}}, {}).btc_usd
    assert found is not None
    assert (found.feeds[0].address, found.least_feeds) == ("http://127.0.0.1:9/x", 1)


def test_unquoted_figures_are_taken_as_they_stand() -> None:
    found = load_settings(GOOD | {"margin": 0.05, "btc_usd": {"fixed": 100000}}, {})
    assert (found.margin, found.btc_usd) == ("0.05", BtcUsd(fixed="100000"))


def test_structured_settings_are_json_in_the_environment() -> None:
    environ = {
        "OTRTA_GATEWAY_PRICES": '{"m": {"request_msat": 7}}',
        "OTRTA_GATEWAY_MINTS": ' ["https://c.example", "https://d.example"]',
        "OTRTA_GATEWAY_BTC_USD": '{"fixed": "5"}',
    }
    found = load_settings(GOOD, environ)
    assert found.prices == {"m": ModelPrice(request_msat=7)}
    assert found.mints == ("https://c.example", "https://d.example")
    with pytest.raises(SettingsError, match="OTRTA_GATEWAY_PRICES begins like JSON and is none"):
        load_settings(GOOD, {"OTRTA_GATEWAY_PRICES": "{m: 5"})


def test_a_secret_may_be_in_a_file(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("postgresql://otrta:hunter2@db/otrta\n")
    name = "OTRTA_GATEWAY_STORE_FILE"
    assert load_settings(GOOD, {name: str(secret)}).store == "postgresql://otrta:hunter2@db/otrta"
    with pytest.raises(SettingsError, match="OTRTA_GATEWAY_STORE and OTRTA_GATEWAY_STORE_FILE are both set"):
        load_settings(GOOD, {name: str(secret), "OTRTA_GATEWAY_STORE": "x"})
    for content, reason in (
        (b"", "empty"),
        (b"\xff", "not UTF-8"),
        (b"a" * (MAX_FILE_BYTES + 1), "too large"),
    ):
        secret.write_bytes(content)
        with pytest.raises(SettingsError, match=f"{name} names a file that .*{reason}"):
            load_settings(GOOD, {name: str(secret)})
    with pytest.raises(SettingsError, match="cannot be read: No such file"):
        load_settings(GOOD, {name: str(tmp_path / "none")})


@pytest.mark.parametrize(
    "theirs",
    [
        "postgresql://localhost/litellm",
        "postgresql://127.0.0.1:5432/litellm?connection_limit=10&pool_timeout=60",
        "postgres://somebody:secret@localhost/litellm",
    ],
)
def test_the_store_is_not_litellms_database(theirs: str) -> None:
    store = {"store": "postgresql://otrta@localhost/litellm"}
    with pytest.raises(SettingsError, match="LiteLLM's own DATABASE_URL") as refused:
        load_settings(GOOD | store, {"DATABASE_URL": theirs})
    assert "secret" not in str(refused.value)
    for other in ("postgresql://localhost/other", "postgresql://localhost:5433/litellm", "nonsense", "x://["):
        assert load_settings(GOOD | store, {"DATABASE_URL": other}).store == store["store"]


def test_settings_that_are_no_mapping_are_refused() -> None:
    with pytest.raises(SettingsError, match="must be a mapping"):
        load_settings(["store"], {})  # type: ignore[arg-type]


def test_what_is_wrong_in_the_environment_is_named_too() -> None:
    with pytest.raises(
        SettingsError, match=r"^OTRTA_GATEWAY_UNIT \(callback_settings\.otrta\.unit\) must be"
    ):
        load_settings(GOOD, {"OTRTA_GATEWAY_UNIT": "dollars"})


def test_a_rates_text_is_never_shown() -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(GOOD | {"store": 5, "made_up": "hunter2"}, {})
    assert "hunter2" not in caught.value.message


def test_a_store_is_a_directory_or_a_url(tmp_path: Path) -> None:
    assert store_url(str(tmp_path)) == f"sqlite:///{tmp_path}/gateway.sqlite3"
    assert store_url("postgresql://db/x") == "postgresql://db/x"
