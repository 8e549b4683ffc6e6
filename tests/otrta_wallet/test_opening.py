"""Opening a wallet: by one process at a time, in files that only its owner reads, with one seed for ever."""

import stat
import subprocess
import sys

import pytest
from sqlalchemy import make_url, select

from otrta_cli.processes import free_port
from otrta_wallet import StoreUnavailable, Wallet, WalletBusy, WalletError
from otrta_wallet.database import open_engine
from otrta_wallet.schema import keysets, outputs
from otrta_wallet.seed import new_words, seed_of
from tests.otrta_wallet.reckoning import top_up

pytestmark = pytest.mark.anyio

OPEN_IT = """
import sys
import anyio
from otrta_wallet import Wallet, WalletBusy

async def main():
    try:
        async with Wallet.open(sys.argv[1]):
            print("opened")
    except WalletBusy as error:
        print("busy:", error.message)

anyio.run(main)
"""


def from_another_process(url):
    command = [sys.executable, "-c", OPEN_IT, url]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


async def test_a_second_process_is_refused_while_the_first_has_it_open(tmp_path):
    url = f"sqlite:///{tmp_path}/wallet.sqlite3"
    async with Wallet.open(url):
        assert from_another_process(url).startswith("busy: another process has this wallet open")
    async with Wallet.open(url):
        pass


async def test_a_second_opening_in_the_same_process_is_refused_by_any_path(tmp_path):
    home = tmp_path / "home"
    link = tmp_path / "link"
    link.symlink_to(home)
    async with Wallet.open(f"sqlite:///{home}/wallet.sqlite3"):
        for path in (home, link):
            with pytest.raises(WalletBusy):
                async with Wallet.open(f"sqlite:///{path}/wallet.sqlite3"):
                    pass


async def test_only_the_owner_can_read_what_it_writes(tmp_path, mint):
    home = tmp_path / "home"
    async with Wallet.open(f"sqlite:///{home}/wallet.sqlite3") as wallet:
        await wallet.mints.add(mint.url)
        await top_up(wallet, mint.url, 8)
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in home.iterdir()}
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert {"wallet.sqlite3", "wallet.sqlite3-wal", "wallet.sqlite3.lock"} <= modes.keys()
    assert set(modes.values()) == {0o600}


async def test_a_database_that_others_could_read_is_closed_to_them(tmp_path):
    path = tmp_path / "wallet.sqlite3"
    path.touch()
    path.chmod(0o644)
    async with Wallet.open(f"sqlite:///{path}"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_the_words_stay_the_same_and_counters_only_rise(open_wallet, mint):
    counters, words = [], set()
    for _ in range(3):
        async with open_wallet() as wallet:
            words.add(await wallet.words())
            await wallet.mints.add(mint.url)
            await top_up(wallet, mint.url, 5)
            await wallet.send(mint.url, 5, "msat")
            rows = await wallet.transactions.run(
                lambda conn, _now: conn.execute(select(outputs.c.keyset_id, outputs.c.counter)).all()
            )
            [following] = await wallet.transactions.run(
                lambda conn, _now: conn.execute(select(keysets.c.counter).where(keysets.c.counter > 0)).all()
            )
            assert len(set(rows)) == len(rows)
            assert following.counter > max(row.counter for row in rows)
            counters.append(following.counter)
    assert len(words) == 1
    assert counters == sorted(set(counters))


async def test_two_wallets_have_two_seeds(open_wallet):
    async with open_wallet("alice") as alice, open_wallet("bob") as bob:
        assert await alice.words() != await bob.words()


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "mysql://localhost/wallet", "wallet"])
def test_a_store_that_would_not_last_is_refused(url):
    with pytest.raises(WalletError):
        open_engine(url)


async def test_a_server_that_is_not_there_is_said_without_the_password():
    url = f"postgresql://otrta:hunter2@127.0.0.1:{free_port()}/wallet"
    with pytest.raises(StoreUnavailable, match=r"the PostgreSQL server at 127\.0\.0\.1:\d+ cannot") as caught:
        async with Wallet.open(url):
            pass
    assert "hunter2" not in str(caught.value) + repr(caught.value)
    assert caught.value.__suppress_context__


async def test_a_password_that_is_wrong_is_not_said_either(postgres):
    url = make_url(postgres.url("postgres")).set(password="hunter2")
    with pytest.raises(StoreUnavailable, match="password authentication failed") as caught:
        async with Wallet.open(url.render_as_string(hide_password=False)):
            pass
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("url", ["postgresql://u:hunter2@h:port/w", "hunter2"])
def test_an_address_that_makes_no_sense_is_not_shown(url):
    with pytest.raises(WalletError, match="database URL") as caught:
        open_engine(url)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("name", ["postgresql+asyncpg", "postgresql+psycopg2"])
def test_postgresql_is_used_by_psycopg_3_only(name):
    with pytest.raises(WalletError, match="psycopg 3"):
        open_engine(f"{name}://localhost/wallet")
    assert open_engine("postgresql://localhost/wallet").url.drivername == "postgresql+psycopg"


def test_a_missing_driver_is_named_with_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(WalletError, match=r"pip install 'otrta\[postgres\]'"):
        open_engine("postgresql://localhost/wallet")


def test_words_are_read_however_they_are_typed_and_checked():
    words = new_words()
    assert len(words.split()) == 12
    assert seed_of(f"  {words.upper()}\n") == seed_of(words)
    assert len(seed_of(words)) == 64
    with pytest.raises(WalletError, match="spelling"):
        seed_of(" ".join(["abandon"] * 12))


async def test_a_commit_is_on_the_disk_before_it_is_reported(tmp_path):
    async with Wallet.open(f"sqlite:///{tmp_path}/wallet.sqlite3") as wallet:

        def pragmas(conn, _now):
            names = ("journal_mode", "synchronous", "foreign_keys", "secure_delete")
            return [conn.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in names]

        assert await wallet.transactions.run(pragmas) == ["wal", 2, 1, 1]
