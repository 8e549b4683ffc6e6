"""A store that is a copy or a backup finds that out, and looks at its mints before it serves."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest
from sqlalchemy import Connection, update

from otrta_cli.processes import Running
from otrta_core import Token
from otrta_litellm import gateway as gateway_module
from otrta_litellm import marker as module
from otrta_litellm.gateway import Gateway
from otrta_litellm.ledger import earnings_msat, holdings_msat, swaps_msat
from otrta_litellm.marker import Finding, Mark, Marker, judge
from otrta_litellm.schema import markers
from otrta_litellm.settings import SettingsError
from otrta_wallet import Wallet, store
from otrta_wallet.schema import ProofStatus
from tests.fault_proxy import Fault, fault_proxy
from tests.integration.purse import Purse
from tests.otrta_litellm.made_up import PAID, Caller, answers, opened
from tests.otrta_litellm.samples import View, deployment, settings
from tests.postgres import Server
from tests.stores import Template

HERE, THERE = Mark("here", 7, "x"), Mark("there", 3, "x")


@pytest.mark.parametrize(
    ("in_file", "in_store", "shared", "finding"),
    [
        (None, [], False, Finding.NEW),
        (HERE, [], True, Finding.NEW),
        (HERE, [HERE], False, Finding.SAME),
        (HERE, [Mark("here", 8, "x")], False, Finding.SAME),  # it died between store and file
        (HERE, [Mark("here", 6, "x")], False, Finding.COPIED),  # an older store
        (None, [HERE], False, Finding.COPIED),  # without its file
        (None, [HERE], True, Finding.SAME),  # another machine joins
        (HERE, [HERE, THERE], True, Finding.SAME),
        (HERE, [THERE], True, Finding.COPIED),  # a store of before this machine joined
        (HERE, [Mark("here", 7, "y")], True, Finding.COPIED),  # copied into another database
        (Mark("here", 7, "y"), [HERE], False, Finding.COPIED),  # the file is of another one
        (None, [HERE, Mark("there", 3, "y")], True, Finding.COPIED),
    ],
)
def test_what_fits_is_the_same_store(
    in_file: Mark | None, in_store: list[Mark], shared: bool, finding: Finding
) -> None:
    assert judge(in_file, in_store, "x", shared=shared) is finding


async def key_of(store: str, mint: Running, **values: str) -> list[str]:
    """Start a gateway, let it serve a call, and return its lock keys, the current one first."""
    with Purse(mint.url) as purse:
        async with opened(store, mint.url, **values) as gateway:
            caller = await Caller(purse.token(PAID)).call(answers(), gateway)
            assert caller.sums == (PAID, 110, 0, PAID - 110)
            return await (await gateway.wallet()).lock_keys.all_public()


@pytest.fixture(autouse=True)
def _look_less_far(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway_module, "EMPTY_BATCHES", 2)


@pytest.fixture
def sqlite_home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.mark.anyio
@pytest.mark.integration
class TestOneFile:
    """An SQLite store, with its file beside it."""

    async def test_one_that_is_started_again_keeps_its_key(self, sqlite_home: Path, mint: Running) -> None:
        first = await key_of(str(sqlite_home), mint)
        assert await key_of(str(sqlite_home), mint) == first
        assert (sqlite_home / "gateway.sqlite3.marker").stat().st_mode & 0o777 == 0o600

    async def test_a_copy_has_a_key_of_its_own_and_takes_the_old_ones_along(
        self, sqlite_home: Path, mint: Running, tmp_path: Path
    ) -> None:
        [first] = await key_of(str(sqlite_home), mint)
        shutil.copytree(sqlite_home, tmp_path / "copy")
        copied = await key_of(str(tmp_path / "copy"), mint)
        assert copied[0] != first
        assert set(copied[1:]) == {first}
        assert await key_of(str(tmp_path / "copy"), mint) == copied
        assert await key_of(str(sqlite_home), mint) == [first]
        shutil.copytree(sqlite_home, tmp_path / "second")
        assert (await key_of(str(tmp_path / "second"), mint))[0] not in (first, copied[0])

    async def test_a_store_that_was_moved_without_its_file_counts_as_a_copy(
        self, sqlite_home: Path, mint: Running
    ) -> None:
        [first] = await key_of(str(sqlite_home), mint)
        (sqlite_home / "gateway.sqlite3.marker").unlink()
        assert (await key_of(str(sqlite_home), mint))[1:] == [first]

    async def test_a_backup_that_is_put_back_is_found_out(
        self, sqlite_home: Path, mint: Running, tmp_path: Path
    ) -> None:
        [first] = await key_of(str(sqlite_home), mint)
        shutil.copyfile(sqlite_home / "gateway.sqlite3", tmp_path / "backup")
        assert await key_of(str(sqlite_home), mint) == [first]
        shutil.copyfile(tmp_path / "backup", sqlite_home / "gateway.sqlite3")
        restored = await key_of(str(sqlite_home), mint)
        assert restored[1:] == [first]
        assert await key_of(str(sqlite_home), mint) == restored

    async def test_a_backup_of_the_running_gateway_is_found_out(
        self, sqlite_home: Path, mint: Running, tmp_path: Path
    ) -> None:
        async with opened(str(sqlite_home), mint.url) as gateway:
            wallet = await gateway.wallet()
            first = wallet.lock_keys.public
            backup = f"VACUUM INTO '{tmp_path}/backup'"
            with wallet.worker.engine.connect() as conn:
                driver = conn.connection.driver_connection
                assert driver is not None
                driver.rollback()
                driver.execute(backup)
            await Marker(gateway.settings, wallet).raise_number()
        shutil.copyfile(tmp_path / "backup", sqlite_home / "gateway.sqlite3")
        assert (await key_of(str(sqlite_home), mint))[1:] == [first]

    async def test_a_copys_old_float_is_handed_out_to_nobody_until_its_operator_says_so(
        self, sqlite_home: Path, mint: Running
    ) -> None:
        def at_hand(conn: Connection, _now: float) -> set[str]:
            return {proof.Y for proof in store.proofs_with(conn, status=ProofStatus.AVAILABLE)}

        dear = json.dumps({"usage": {"prompt_tokens": 10, "completion_tokens": 2000}}).encode()
        with Purse(mint.url) as purse:
            async with opened(str(sqlite_home), mint.url) as gateway:
                await Caller(purse.token(3 * PAID)).call(answers(dear), gateway)
                old = await (await gateway.wallet()).transactions.run(at_hand)
                assert old
            (sqlite_home / "gateway.sqlite3.marker").unlink()
            async with opened(str(sqlite_home), mint.url) as gateway:
                transactions = (await gateway.wallet()).transactions
                assert not await transactions.run(at_hand)
                served = await Caller(purse.token(PAID)).call(answers(), gateway)
                change = Token.parse(served.told[b"x-cashu"].decode())
                assert not {proof.Y for proof in change.proofs} & old
                await gateway._take_back()
                assert set(purse.states_of(old)) == {"UNSPENT"}
                await gateway.recover()
                assert set(purse.states_of(old)) == {"SPENT"}
                assert await transactions.run(at_hand)
            home = str(sqlite_home)
            assert holdings_msat(home) == earnings_msat(home) + swaps_msat(home) == 10_010 + 110

    async def test_a_copy_serves_nobody_before_its_mint_was_asked(
        self, sqlite_home: Path, mint: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(gateway_module, "RECOVER_EVERY_S", 0.1)
        with fault_proxy(mint.port) as proxy, Purse(mint.url, proxy.url) as purse:
            async with opened(str(sqlite_home), proxy.url) as gateway:
                caller = await Caller(purse.token(PAID)).call(answers(), gateway)
                assert caller.status == 200
            monkeypatch.setattr(gateway_module, "STARTUP_S", 0.2)
            (sqlite_home / "gateway.sqlite3.marker").unlink()
            away = Fault("away", forwards=0, keeps=None)
            proxy.spoil("restore", *[away] * 10_000)
            copy = Gateway(gateway.settings, View(**{"demo-chat": [deployment("demo-chat")]}))
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(copy.run)
                refused = await Caller(purse.token(PAID)).call(answers(), copy)
                assert (refused.status, refused.code) == (503, "starting")
                proxy.reset()
                with anyio.fail_after(60):
                    await copy._ready.wait()
                served = await Caller(purse.token(PAID)).call(answers(), copy)
                assert served.sums == (PAID, 110, 0, PAID - 110)
                tasks.cancel_scope.cancel()

    async def test_a_store_that_is_replaced_under_way_is_seen_at_the_next_start(
        self, sqlite_home: Path, mint: Running, capsys: pytest.CaptureFixture[str]
    ) -> None:
        async with opened(str(sqlite_home), mint.url) as gateway:
            wallet = await gateway.wallet()
            first = wallet.lock_keys.public
            await put_back(wallet)
            await Marker(gateway.settings, wallet).raise_number()
            assert "store_does_not_fit_its_marker" in str(capsys.readouterr())
        assert (await key_of(str(sqlite_home), mint))[1:] == [first]

    async def test_a_file_that_cannot_be_written_stops_the_start(self, tmp_path: Path) -> None:
        (tmp_path / "taken").write_text("")
        values = {"store": str(tmp_path), "state_dir": str(tmp_path / "taken" / "x")}
        async with Wallet.open(f"sqlite:///{tmp_path}/w.sqlite3") as wallet:
            with pytest.raises(SettingsError, match="state_dir"):
                await Marker(settings(**values), wallet).arrive()


async def put_back(wallet: Wallet) -> None:
    """Let the store be as it was a while ago."""
    back = update(markers).values(number=0)
    await wallet.transactions.run(lambda conn, _now: conn.execute(back))


@pytest.mark.anyio
@pytest.mark.integration
class TestSeveralMachines:
    """A PostgreSQL store, each machine with a file of its own."""

    async def test_machines_that_join_have_the_same_key(
        self, shared_place: str, mint: Running, tmp_path: Path
    ) -> None:
        first = await key_of(shared_place, mint, state_dir=str(tmp_path / "one"))
        assert await key_of(shared_place, mint, state_dir=str(tmp_path / "two")) == first
        assert await key_of(shared_place, mint, state_dir=str(tmp_path / "one")) == first
        assert len(list((tmp_path / "one").glob("*.marker"))) == 1

    async def test_workers_of_one_machine_share_a_file(self, shared_place: str, mint: Running) -> None:
        async with opened(shared_place, mint.url) as here, opened(shared_place, mint.url) as there:
            wallets = [await here.wallet(), await there.wallet()]
            for gateway, wallet in zip((here, there), wallets, strict=True):
                await Marker(gateway.settings, wallet).raise_number()
            assert wallets[0].lock_keys.public == wallets[1].lock_keys.public
        assert len(await key_of(shared_place, mint)) == 1

    async def test_a_database_that_was_copied_has_a_key_of_its_own(
        self, tmp_path: Path, mint: Running, postgres: Server, empty_stores: Callable[[str], Template]
    ) -> None:
        with empty_stores("postgresql").used() as template:
            store = template.url_in(tmp_path, "original")
            [first] = await key_of(store, mint)
            template.copy(tmp_path, "original", "copy")
            copied = await key_of(template.url_in(tmp_path, "copy"), mint, state_dir=str(tmp_path / "new"))
            assert (copied[0] != first, copied[1:]) == (True, [first])
            assert await key_of(store, mint) == [first]

    async def test_a_database_that_was_put_back_is_found_out_by_any_machine_that_knew_more(
        self, shared_place: str, mint: Running, tmp_path: Path
    ) -> None:
        here, there = str(tmp_path / "one"), str(tmp_path / "two")
        [first] = await key_of(shared_place, mint, state_dir=here)
        await key_of(shared_place, mint, state_dir=there)
        async with Wallet.open(shared_place) as wallet:
            await put_back(wallet)
        restored = await key_of(shared_place, mint, state_dir=there)
        assert (restored[0] != first, restored[1:]) == (True, [first])


def test_the_number_is_raised_often() -> None:
    assert module.RAISE_EVERY_S <= 10
