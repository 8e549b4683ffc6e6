"""What the page and the commands do about budgets, settings, the pause, keys and approvals."""

import tomllib
from contextlib import asynccontextmanager

import pytest

from proxy_trio import approvals
from proxy_trio.actions import act
from proxy_trio.app_keys import PREFIX
from proxy_trio.approvals import Ask
from proxy_trio.client import open_client
from proxy_trio.client_settings import ClientSettings, SettingsInvalid
from proxy_trio.errors import ActionInvalid, ApprovalNotKnown, KeyExists, KeyNotKnown, KeyRefused

pytestmark = pytest.mark.trio


@asynccontextmanager
async def opened(home, **settings):
    async with open_client(home, ClientSettings.model_validate(settings)) as client:
        yield client


def limit(told, window):
    return next(line for line in told["limits"] if line["window"] == window)


async def test_every_budget_is_told_with_what_is_left_and_when_it_renews(tmp_path):
    async with opened(tmp_path, budgets={"per_month_sat": 5, "models": ["gpt-*"]}) as client:
        told = await act(client, "budgets", {})
        now = client.wallet.transactions.now()
    assert [line["window"] for line in told["limits"]] == ["request", "hour", "day", "month"]
    assert limit(told, "request") == {
        "window": "request",
        "limit_msat": 1_000_000,
        "spent_msat": None,
        "left_msat": 1_000_000,
        "renews_at": None,
    }
    assert limit(told, "hour")["limit_msat"] is limit(told, "hour")["left_msat"] is None
    assert limit(told, "month")["left_msat"] == 5000
    assert now < limit(told, "hour")["renews_at"] <= limit(told, "day")["renews_at"]
    assert (told["paused_since"], told["models"], told["keys"]) == (None, ["gpt-*"], [])
    assert (told["approve_above_msat"], told["require_keys"]) == (None, False)


async def test_a_setting_is_written_to_the_file_and_holds_at_once(tmp_path):
    async with opened(tmp_path) as client:
        told = await act(
            client, "config_set", {"values": {"budgets.per_day_sat": "12000", "port": 9000, "origins": []}}
        )
        assert told == {
            "values": {"budgets.per_day_sat": 12_000, "port": 9000, "origins": []},
            "overruled_by": {},
            "at_next_start": ["port", "origins"],
        }
        got = await act(client, "config_get", {"key": "budgets.per_day_sat"})
        assert got == {"key": "budgets.per_day_sat", "value": 12_000}
        assert limit(await act(client, "budgets", {}), "day")["left_msat"] == 12_000_000
        assert client.settings.port == 8402
        await act(client, "config_set", {"values": {"budgets.per_day_sat": None}})
        assert limit(await act(client, "budgets", {}), "day")["left_msat"] == 10_000_000
    assert tomllib.loads((tmp_path / "config.toml").read_text()) == {
        "port": 9000,
        "origins": [],
        "budgets": {},
    }


@pytest.mark.parametrize(
    "values",
    [
        {"budgets.per_day_sat": -1},
        {"budgets.per_day_sat": 1.5},
        {"budgets.per_day_sat": True},
        {"budgets.per_day_sat": "lots"},
        {"budgets.per_day_sat": 10**12 + 1},
        {"budgets.per_dya_sat": 1},
        {"budgets": "x"},
        {"budgets.models": ""},
        {"origins": ["http://x/path"]},
        {"host": "example.com"},
    ],
)
async def test_a_wrong_setting_changes_nothing(values, tmp_path):
    async with opened(tmp_path) as client:
        with pytest.raises(SettingsInvalid, match=next(iter(values))):
            await act(client, "config_set", {"values": {"port": 9000} | values})
        assert client.settings == ClientSettings()
    assert not (tmp_path / "config.toml").exists()


async def test_the_pause_outlives_a_restart(tmp_path):
    async with opened(tmp_path) as client:
        since = (await act(client, "pause", {}))["paused_since"]
        assert (await act(client, "pause", {}))["paused_since"] == since
    async with opened(tmp_path) as client:
        assert (await act(client, "budgets", {}))["paused_since"] == since
        assert await act(client, "resume", {}) == {"paused_since": None}
        assert (await act(client, "budgets", {}))["paused_since"] is None


def given(text):
    return [(b"authorization", f"Bearer {text}".encode())]


async def test_a_key_is_told_once_and_kept_as_a_hash(tmp_path):
    async with opened(tmp_path) as client:
        made = await act(client, "keys_add", {"name": "cursor", "limits": {"per_day_msat": 7}})
        text = made.pop("key")
        assert text.startswith(PREFIX)
        assert len(text) == len(PREFIX) + 43
        assert made["prefix"] == text[: len(PREFIX) + 4]
        listed = await act(client, "keys", {})
        assert [key["name"] for key in listed] == ["cursor"]
        assert listed[0] == made
        assert limit(listed[0], "day")["left_msat"] == 7
        assert limit(listed[0], "total")["limit_msat"] is None
        assert client.keys.identify(given(text), required=True).name == "cursor"
        assert text not in repr(client.keys.identify(given(text), required=True))
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert text.encode() not in stored
    assert text[len(PREFIX) + 5 :].encode() not in stored
    async with opened(tmp_path) as client:
        assert client.keys.identify(given(text), required=True).name == "cursor"


async def test_a_key_that_is_rotated_or_removed_is_refused_from_then_on(tmp_path):
    async with opened(tmp_path) as client:
        first = (await act(client, "keys_add", {"name": "a"}))["key"]
        second = (await act(client, "keys_rotate", {"name": "a"}))["key"]
        with pytest.raises(KeyRefused):
            client.keys.identify(given(first), required=False)
        key_id = client.keys.identify(given(second), required=False).id
        assert await act(client, "keys_remove", {"name": "a"}) == {"name": "a"}
        with pytest.raises(KeyRefused, match="was removed"):
            client.keys.identify(given(second), required=False)
        again = (await act(client, "keys_add", {"name": "a"}))["key"]
        assert client.keys.identify(given(again), required=False).id != key_id


async def test_what_is_not_named_stays_as_it_is(tmp_path):
    async with opened(tmp_path) as client:
        text = (
            await act(
                client,
                "keys_add",
                {"name": "a", "limits": {"per_day_msat": 7}, "models": ["m"], "expires_in_s": 60},
            )
        )["key"]
        told = await act(client, "keys_set", {"name": "a", "limits": {"per_hour_msat": 3}})
        assert (limit(told, "day")["limit_msat"], limit(told, "hour")["limit_msat"]) == (7, 3)
        assert (told["models"], told["expires_at"] is None) == (["m"], False)
        told = await act(
            client,
            "keys_set",
            {"name": "a", "limits": {"per_day_msat": None}, "models": "any", "expires_in_s": 0},
        )
        assert (limit(told, "day")["limit_msat"], limit(told, "hour")["limit_msat"]) == (None, 3)
        assert (told["models"], told["expires_at"]) == (None, None)
        assert client.keys.identify(given(text), required=True).limits.per_hour_msat == 3


async def test_a_name_is_for_one_key(tmp_path):
    async with opened(tmp_path) as client:
        await act(client, "keys_add", {"name": "a"})
        with pytest.raises(KeyExists, match="otrta keys rotate a"):
            await act(client, "keys_add", {"name": "a"})
        for action in ("keys_set", "keys_remove", "keys_rotate"):
            with pytest.raises(KeyNotKnown, match="otrta keys"):
                await act(client, action, {"name": "b"})


@pytest.mark.parametrize(
    ("action", "params"),
    [
        ("keys_add", {"name": ""}),
        ("keys_add", {"name": "a b"}),
        ("keys_add", {"name": "a" * 65}),
        ("keys_add", {"name": "a\n"}),
        ("keys_add", {"name": "a", "limits": {"per_day_msat": -1}}),
        ("keys_add", {"name": "a", "limits": {"per_day_msat": 2**63}}),
        ("keys_add", {"name": "a", "limits": {"per_week_msat": 1}}),
        ("keys_add", {"name": "a", "models": "m"}),
        ("keys_add", {"name": "a", "models": ["a\x1b"]}),
        ("keys_add", {"name": "a", "expires_in_s": -1}),
        ("config_set", {"values": {}}),
        ("config_get", {}),
        ("approve", {"id": "x"}),
        ("deny", {"id": "0" * 9}),
    ],
)
async def test_parameters_are_checked(action, params, tmp_path):
    async with opened(tmp_path) as client:
        with pytest.raises(ActionInvalid):
            await act(client, action, params)


async def test_what_waits_is_listed_and_decided_once(tmp_path):
    async with opened(tmp_path) as client:
        await act(client, "keys_add", {"name": "a"})
        (key,) = await client.wallet.transactions.run(lambda conn, _now: _keys(conn))
        ask = Ask(key.id, "m", "https://g", 2_000)
        made = await client.wallet.transactions.run(approvals.ask_for, ask, frozenset())
        (told,) = await act(client, "approvals", {})
        assert {name: told[name] for name in ("id", "state", "key", "model", "gateway", "amount_msat")} == {
            "id": made.id,
            "state": "waiting",
            "key": "a",
            "model": "m",
            "gateway": "https://g",
            "amount_msat": 2_000,
        }
        assert (await act(client, "approve", {"id": made.id}))["state"] == "approved"
        assert await act(client, "approvals", {}) == []
        with pytest.raises(ApprovalNotKnown):
            await act(client, "deny", {"id": made.id})


def _keys(conn):
    from proxy_trio import app_keys

    return app_keys.every(conn)
