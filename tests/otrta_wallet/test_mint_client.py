"""The mint client over real sockets, against a mint that answers byte for byte as the test says."""

import json
import logging
import socket
import threading
from contextlib import contextmanager

import anyio
import pytest

from otrta_core import Dleq, Keyset, KeysetError, Proof, derive_keyset_id_v1
from otrta_wallet import MintRefused, MintUnreachable, OutcomeUnknown, mint_client
from otrta_wallet.mint_client import KeysetEntry, MintClient, new_http_client

pytestmark = pytest.mark.anyio

POINT = "02" + "79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"
KEYSET_ID = "00" + "ab" * 7


def reply(body, status=200, *headers):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} x", f"Content-Length: {len(data)}", "Connection: close", *headers, "", ""]
    return "\r\n".join(lines).encode() + data


class ScriptedMint:
    """Answers the n-th request with the n-th script, and the rest with the last one; then hangs up."""

    def __init__(self, listener, scripts):
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        self.requests = []
        self._listener, self._scripts = listener, scripts

    def run(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(5)
                self.requests.append(self._read(connection))
                script = self._scripts[min(len(self.requests), len(self._scripts)) - 1]
                if callable(script):
                    script(connection)
                else:
                    connection.sendall(script)

    @staticmethod
    def _read(connection):
        data = b""
        while b"\r\n\r\n" not in data:
            data += connection.recv(65536)
        head, _, body = data.partition(b"\r\n\r\n")
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                while len(body) < int(line.split(b":")[1]):
                    body += connection.recv(65536)
        return head + b"\r\n\r\n" + body


@contextmanager
def scripted_mint(*scripts):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        mint = ScriptedMint(listener, scripts)
        thread = threading.Thread(target=mint.run)
        thread.start()
        try:
            yield mint
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.fixture
async def http():
    async with new_http_client(timeout_s=2.0) as client:
        yield client


PROOF = Proof(8, KEYSET_ID, "a-secret-of-the-test", POINT, Dleq("11" * 32, "22" * 32, "77" * 32))
OUTPUT = {"amount": 8, "id": KEYSET_ID, "B_": POINT}


async def swap(client):
    await client.swap([PROOF], [OUTPUT])


@pytest.mark.parametrize("status", [100, 201, 204, 302, 408, 425, 429, 500, 502, 503, 504])
async def test_an_answer_that_decides_nothing_leaves_the_outcome_unknown(http, status):
    with scripted_mint(reply({"detail": "x", "code": 11001}, status)) as mint:
        with pytest.raises(OutcomeUnknown):
            await swap(MintClient(mint.url, http))
        assert len(mint.requests) == 1


@pytest.mark.parametrize(
    ("body", "status", "said", "code"),
    [
        ({"detail": "Token already spent.", "code": 11001}, 400, "Token already spent.", 11001),
        ({"detail": "keyset id inactive.", "code": 11000}, 400, "keyset id inactive.", 11000),
        ({"detail": [{"loc": ["body"], "msg": "too long"}]}, 422, "it gave no reason", None),
        (b"<html>Not Found</html>", 404, "it gave no reason", None),
        (b"", 403, "it gave no reason", None),
        ({"code": "eleven"}, 400, "it gave no reason", None),
    ],
)
async def test_a_refusal_carries_the_mints_reason(http, body, status, said, code):
    with scripted_mint(reply(body, status)) as mint:
        with pytest.raises(MintRefused) as caught:
            await swap(MintClient(mint.url, http))
        assert len(mint.requests) == 1
    assert (caught.value.message, caught.value.status) == (f"the mint refused: {said}", status)
    assert caught.value.mint_code == code


async def test_a_reason_that_echoes_what_was_sent_is_not_repeated(http):
    secret = "5f" * 32
    echo = {"detail": f"secret {secret} of cashuBo2FteBtodHRwOi8vMTI3LjAuMC4x is\x1b[31m bad"}
    with scripted_mint(reply(echo, 400)) as mint, pytest.raises(MintRefused) as caught:
        await swap(MintClient(mint.url, http))
    assert caught.value.message == "the mint refused: secret … of … is[31m bad"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not json",
        b"[]",
        b"{}",
        b'{"signatures": null}',
        b'{"signatures": [{"amount": -1, "id": "00", "C_": "02"}]}',
        b'{"signatures": [{"amount": 9223372036854775808, "id": "00", "C_": "02"}]}',
        b'{"signatures": [{"amount": 8, "id": "zz", "C_": "02"}]}',
        b'{"signatures": [' + b"[" * 5000 + b"]}",
        b"\xff\xfe",
    ],
)
async def test_a_200_that_is_not_what_the_specs_say_leaves_the_outcome_unknown(http, body):
    with scripted_mint(reply(body)) as mint:
        with pytest.raises(OutcomeUnknown):
            await swap(MintClient(mint.url, http))
        assert len(mint.requests) == 1


async def test_upper_case_hex_is_read_as_the_same_bytes(http):
    signature = {"amount": 8, "id": KEYSET_ID.upper(), "C_": POINT.upper()}
    with scripted_mint(reply({"signatures": [signature]})) as mint:
        [read] = await MintClient(mint.url, http).swap([PROOF], [OUTPUT])
    assert (read.id, read.C_) == (KEYSET_ID, POINT)


async def test_a_reply_over_the_bound_is_not_read_to_its_end(http, monkeypatch):
    monkeypatch.setattr(mint_client, "MAX_REPLY_BYTES", 100_000)
    sent = []

    def flood(connection):
        connection.sendall(b"HTTP/1.1 200 x\r\nContent-Length: 1000000000\r\n\r\n")
        try:
            while True:
                sent.append(connection.send(b" " * 65536))
        except OSError:
            pass

    with scripted_mint(flood) as mint, pytest.raises(OutcomeUnknown, match="too much"):
        await swap(MintClient(mint.url, http))
    assert sum(sent) < 50_000_000


async def test_a_compressed_reply_is_not_unpacked(http):
    with scripted_mint(reply(b"\x1f\x8b\x08\x00", 200, "Content-Encoding: gzip")) as mint:
        with pytest.raises(OutcomeUnknown):
            await swap(MintClient(mint.url, http))
        assert b"accept-encoding: identity\r\n" in mint.requests[0].lower()


def cut(connection):
    connection.sendall(b'HTTP/1.1 200 x\r\nContent-Length: 100\r\n\r\n{"signatures"')


def hang_up(_connection):
    pass


@pytest.mark.parametrize(
    "script", [cut, hang_up, b"HTTP/1.1 200 ", b"\x00\x01\x02\r\n\r\n", b"SSH-2.0-x\r\n"]
)
async def test_a_broken_reply_leaves_the_outcome_unknown(http, script):
    with scripted_mint(script) as mint:
        with pytest.raises(OutcomeUnknown):
            await swap(MintClient(mint.url, http))
        assert len(mint.requests) == 1


async def test_a_reply_that_drips_is_given_up_after_the_whole_time(http, monkeypatch):
    monkeypatch.setattr(mint_client, "CALL_S", 0.3)

    def drip(connection):
        connection.sendall(b"HTTP/1.1 200 x\r\nContent-Length: 1000\r\n\r\n")
        try:
            for _ in range(100):
                connection.sendall(b" ")
                threading.Event().wait(0.05)
        except OSError:
            pass

    with scripted_mint(drip) as mint, anyio.fail_after(3), pytest.raises(OutcomeUnknown):
        await swap(MintClient(mint.url, http))


async def test_a_refused_connection_means_that_nothing_was_sent(http):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(MintUnreachable):
        await swap(MintClient(f"http://127.0.0.1:{port}", http))


async def test_questions_are_asked_three_times(http):
    with scripted_mint(reply(b"", 500), reply(b"", 429), reply({"name": "m"})) as mint:
        assert (await MintClient(mint.url, http).info()).name == "m"
    with scripted_mint(reply(b"", 500)) as mint:
        with pytest.raises(OutcomeUnknown):
            await MintClient(mint.url, http).info()
        assert len(mint.requests) == 3


async def test_a_refused_question_is_asked_once(http):
    with scripted_mint(reply(b"", 404)) as mint:
        with pytest.raises(MintRefused):
            await MintClient(mint.url, http).info()
        assert len(mint.requests) == 1


@pytest.mark.parametrize(
    "states",
    [
        [],
        [{"Y": "02" + "00" * 32, "state": "UNSPENT"}],
        [{"Y": PROOF.Y, "state": "UNSPENT"}, {"Y": "02" + "00" * 32, "state": "SPENT"}],
        [{"Y": PROOF.Y, "state": "unspent"}],
        [{"state": "UNSPENT"}],
    ],
)
async def test_states_of_other_proofs_than_asked_are_no_answer(http, states):
    with scripted_mint(reply({"states": states})) as mint, pytest.raises(OutcomeUnknown):
        await MintClient(mint.url, http).check_state([PROOF.Y])


async def test_the_states_come_by_y_whatever_their_order(http):
    other = "03" + "00" * 32
    states = [{"Y": other, "state": "SPENT"}, {"Y": PROOF.Y.upper(), "state": "PENDING"}]
    with scripted_mint(reply({"states": states})) as mint:
        found = await MintClient(mint.url, http).check_state([PROOF.Y, other])
    assert found == {PROOF.Y: "PENDING", other: "SPENT"}


async def test_a_restore_that_does_not_match_itself_is_no_answer(http):
    script = reply({"outputs": [OUTPUT], "signatures": []})
    with scripted_mint(script) as mint, pytest.raises(OutcomeUnknown):
        await MintClient(mint.url, http).restore([OUTPUT])


async def test_what_links_a_token_to_its_issue_never_reaches_the_mint(http):
    with scripted_mint(reply({"signatures": []})) as mint:
        await MintClient(mint.url, http).swap([PROOF], [OUTPUT])
    [request] = mint.requests
    assert PROOF.secret.encode() in request
    assert PROOF.dleq is not None
    for part in (PROOF.dleq.r, PROOF.dleq.e, PROOF.dleq.s, "dleq"):
        assert part.encode() not in request


async def test_a_witness_goes_to_the_mint_as_it_is(http):
    locked = Proof(8, KEYSET_ID, "s", POINT, None, '{"signatures":["x"]}')
    with scripted_mint(reply({"signatures": []})) as mint:
        await MintClient(mint.url, http).swap([locked], [OUTPUT])
    body = json.loads(mint.requests[0].partition(b"\r\n\r\n")[2])
    assert body["inputs"][0]["witness"] == locked.witness


@pytest.mark.parametrize(
    "shown",
    [
        {"keysets": []},
        {"keysets": [{"id": KEYSET_ID, "unit": "sat", "keys": {"1": POINT}}]},
        {"keysets": [{"id": KEYSET_ID, "unit": "msat", "keys": {"1": POINT}}]},
        {"keysets": [{"id": KEYSET_ID, "unit": "msat", "keys": {}}]},
        {"keysets": [{"id": KEYSET_ID, "unit": "msat", "keys": {"1": "02" + "00" * 32}}]},
    ],
)
async def test_keys_that_are_not_those_of_the_listed_id_are_refused(http, shown):
    entry = KeysetEntry(id=KEYSET_ID, unit="msat", active=True)
    with scripted_mint(reply(shown)) as mint, pytest.raises(KeysetError):
        await MintClient(mint.url, http).keyset(entry)


async def test_keys_are_taken_whose_id_belongs_to_them(http):
    keyset_id = derive_keyset_id_v1({1: POINT})
    shown = {"keysets": [{"id": keyset_id, "unit": "msat", "keys": {"1": POINT}}]}
    entry = KeysetEntry(id=keyset_id, unit="msat", active=False, input_fee_ppk=100)
    with scripted_mint(reply(shown)) as mint:
        keyset = await MintClient(mint.url, http).keyset(entry)
    assert keyset == Keyset(keyset_id, "msat", {1: POINT}, 100, None, False)


async def test_no_log_names_a_quote(http, caplog):
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, logger="httpx")  # LiteLLM, where it is imported, turns it down
    answer = {"quote": "quote-id-of-the-test", "request": "lnbc1", "state": "UNPAID"}
    with scripted_mint(reply(answer)) as mint:
        quote = await MintClient(mint.url, http).mint_quote("quote-id-of-the-test")
    assert "/v1/mint/quote/bolt11/…" in caplog.text
    assert "quote-id-of-the-test" not in caplog.text + repr(quote)
