"""Nothing that can be spent is ever said: not in a log, an error, a repr, or a row that is for people."""

import json
import logging
import traceback

import pytest
from sqlalchemy import select

from otrta_core import P2PK, LockError, Token, derive_lock_key
from otrta_wallet import OutcomeUnknown
from otrta_wallet.mint_client import new_http_client
from otrta_wallet.outputs import derive_blinding_factor
from otrta_wallet.schema import history, lock_keys, operations, outputs, proofs, quotes
from otrta_wallet.seed import seed_of
from tests.fault_proxy import LOCKED, Fault, fault_proxy
from tests.otrta_wallet.reckoning import top_up

pytestmark = pytest.mark.anyio


class Ear:
    """Hears what is returned and raised."""

    def __init__(self):
        self.heard = []

    async def to(self, call):
        try:
            value = await call
        except Exception as error:
            self.heard += [repr(error), *traceback.format_exception(error)]
            self.heard += [repr(error.__cause__), repr(error.__context__)]
            return error
        self.heard.append(repr(value))
        return value


async def secrets_of(wallet):
    """Everything in a wallet whose reader could take money, or link a token to its issue."""

    def read(conn, _now):
        return (
            conn.execute(select(proofs)).all(),
            conn.execute(select(quotes.c.id)).scalars().all(),
            conn.execute(select(outputs)).all(),
            conn.execute(select(lock_keys.c.private)).scalars().all(),
        )

    found, quote_ids, planned, private_keys = await wallet.transactions.run(read)
    words = await wallet.words()
    seed = seed_of(words)
    secrets = {words, seed.hex(), derive_lock_key(seed).hex(), *quote_ids, *private_keys}
    for row in found:
        secrets |= {row.secret, row.c, row.dleq_r, row.dleq_e}
    for row in planned:
        given = row.counter is None
        secrets |= {
            row.secret,
            row.r if given else derive_blinding_factor(seed, row.keyset_id, row.counter).hex(),
        }
    return {secret for secret in secrets if secret}


async def test_no_secret_is_ever_said(open_wallet, mint, caplog):
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, logger="httpx")  # LiteLLM, where it is imported, turns it down
    ear = Ear()
    tokens = []
    with fault_proxy(mint.port) as network:
        async with (
            new_http_client(timeout_s=2.0) as http,
            open_wallet("alice", http=http) as alice,
            open_wallet("bob", http=http) as bob,
        ):
            for wallet in (alice, bob):
                await ear.to(wallet.mints.add(network.url))
                ear.heard += [repr(wallet), repr(wallet.mints), repr(vars(wallet.mints)["_clients"])]
            quote = await ear.to(alice.request_invoice(network.url, 500, "msat"))
            await ear.to(alice.claim_quote(quote.id))
            await top_up(alice, network.url, 500)
            for with_dleq in (False, True):
                for amount in (1, 1, 1, 100):
                    transfer = await ear.to(alice.send(network.url, amount, "msat", with_dleq=with_dleq))
                    tokens.append(transfer.token)
            token = Token.parse(tokens[3])
            echo = {"detail": f"{token.proofs[0].secret} {token.proofs[0].C} {tokens[3]}", "code": 1}
            said_back = Fault("echo", forwards=0, answer=(400, json.dumps(echo).encode()))
            nonsense = Fault("echo", answer=(200, json.dumps(echo).encode()))
            network.spoil("/v1/swap", said_back, Fault("dropped", forwards=0, keeps=None), *[nonsense] * 3)
            network.spoil("/v1/restore", Fault("none", answer=(200, b'{"outputs": [], "signatures": []}')))
            refused = await ear.to(bob.receive(token))
            assert refused.message.startswith("the mint refused: … …")
            ear.heard.append(repr(await bob.inspect(token)))
            network.spoil("/v1/checkstate", *[Fault("500", answer=(500, b"".join(LOCKED[1:])))] * 3)
            assert isinstance(await ear.to(bob.receive(token)), OutcomeUnknown)
            await ear.to(bob.receive(token))
            await ear.to(bob.recover())
            await ear.to(bob.receive(token))
            kept = await bob.transactions.run(bob.keep, await bob.inspect(Token.parse(tokens[7])), None)
            await ear.to(bob.redeem(kept.id))
            await ear.to(alice.reclaim(transfer.id))
            await ear.to(alice.reclaim((await alice.transfers())[0].id))
            await ear.to(alice.send(network.url, 10**9, "msat"))
            key = await ear.to(bob.lock_keys.add(bytes(31) + b"\x07"))
            for lock in (P2PK(key), P2PK(alice.lock_keys.public)):
                locked = await ear.to(alice.send_locked(network.url, 50, "msat", lock))
                tokens.append(locked.token)
                refused = await ear.to(bob.receive(Token.parse(locked.token)))
            assert isinstance(refused, LockError)
            ear.heard.append(repr(bob.lock_keys))
            for wallet in (alice, bob):
                for call in (wallet.balances, wallet.history, wallet.transfers, wallet.open_operations):
                    await ear.to(call())
                await ear.to(wallet.transactions.run(lambda conn, _now: broken(conn)))
                await ear.to(wallet.transactions.run(rows_for_people))
            secrets = set(tokens) | await secrets_of(alice) | await secrets_of(bob)
    everything = "\n".join([*ear.heard, caplog.text])
    assert len(secrets) > 50
    assert "HTTP Request" in everything
    assert [secret for secret in secrets if secret in everything] == []


def broken(conn):
    """Store a proof a second time, which the database refuses."""
    row = conn.execute(select(proofs)).first()
    conn.execute(proofs.insert().values(**row._mapping))


def rows_for_people(conn, _now):
    errors = conn.execute(select(operations.c.error, operations.c.reference)).all()
    return errors, conn.execute(select(history)).all()


async def test_the_seeds_words_are_shown_only_when_asked_for(open_wallet, caplog):
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, logger="httpx")  # LiteLLM, where it is imported, turns it down
    async with open_wallet() as wallet:
        words = await wallet.words()
        assert words not in caplog.text + repr(vars(wallet).keys()) + repr(wallet)
