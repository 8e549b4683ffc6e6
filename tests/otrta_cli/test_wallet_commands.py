"""The wallet's commands: what they print, what they exit with, and how they reach the wallet."""

import io
import json
import os
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from otrta_cli import pay_command, wallet_commands, wallet_link
from otrta_cli.main import main
from otrta_cli.processes import Running
from otrta_core import P2PK, Nut10Option, PaymentRequest, Proof, Token, read_lock, schnorr
from otrta_wallet.database import sole_owner
from proxy_trio.client_settings import SERVE_FILE, TOKEN_FILE, WALLET_FILE
from tests.otrta_wallet.lightning import strangers_invoice

POINT = "02" + "ab" * 32
TOKEN = Token(
    "https://mint.example",
    "sat",
    (Proof(2, "009a1f293253e41e", "secret-one", POINT), Proof(8, "009a1f293253e41e", "secret-two", POINT)),
    memo="thanks",
)

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An OTRTA_HOME that is not there yet."""
    monkeypatch.setenv("OTRTA_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def run(home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs `otrta`; returns exit code, standard output and standard error."""

    def otrta(*arguments: str, stdin: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode()), encoding="utf-8"))
        try:
            code = main(arguments)
        except SystemExit as ended:
            code = int(ended.code or 0)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return otrta


@pytest.fixture
def funded(run: Run, mint: Running) -> Run:
    """The same with 100 sat in the wallet."""
    assert run("mints", "add", mint.url)[0] == 0
    assert run("invoice", "100sat", "--json")[0] == 0
    return run


# --- without a mint -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "hint"),
    [
        (["balance"], "otrta invoice AMOUNT"),
        (["history"], "otrta invoice AMOUNT"),
        (["pending"], "Nothing is pending"),
        (["recover"], "Nothing is open"),
        (["mints"], "otrta mints add URL"),
        (["mints", "list"], "otrta mints add URL"),
        (["gateways"], "otrta gateways add URL"),
        (["gateways", "list"], "otrta gateways add URL"),
        (["config"], "budget per day"),
        (["config", "show"], "1,000 sat"),
    ],
)
def test_an_empty_wallet_says_what_to_do_next(command: list[str], hint: str, run: Run) -> None:
    code, out, err = run(*command)
    assert (code, err) == (0, "")
    assert hint in out


@pytest.mark.parametrize("command", ["balance", "history", "pending", "mints", "gateways", "config"])
def test_json_is_one_value_on_one_line(command: str, run: Run) -> None:
    code, out, err = run(command, "--json")
    assert (code, err, len(out.splitlines())) == (0, "", 1)
    json.loads(out)


def test_the_home_and_what_is_in_it_are_for_its_owner_alone(run: Run, home: Path) -> None:
    run("balance")
    assert home.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o077 for path in home.iterdir()} == {0}


@pytest.mark.parametrize(
    "arguments",
    [
        ["send"],
        ["send", "5", "--list"],
        ["send", "--list", "--show", "abcdef"],
        ["send", "--cancel", "abcdef", "--memo", "x"],
        ["send", "--list", "--at-least"],
        ["send", "5", "--lock", "02" + "79" * 32, "--at-least"],
        ["send", "--list", "--lock", "02" + "79" * 32],
        ["send", "5", "--refund-after", "soon"],
        ["send", "5", "--refund-after", "0d"],
        ["send", "5", "--refund-after", "99999d"],
        ["send", "0"],
        ["send", "-5"],
        ["send", "1.5"],
        ["send", "10btc"],
        ["invoice"],
        ["invoice", "5", "--list"],
        ["invoice", "--claim", "abc", "--no-wait"],
        ["invoice", "ten"],
        ["send", "5", "--unit", "usd"],
        ["history", "--limit", "0"],
        ["mints", "sell"],
        ["decode"],
        ["serve", "--port", "70000"],
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(arguments: list[str], run: Run, home: Path) -> None:
    code, out, err = run(*arguments)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert not home.exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["send", "5"],
        ["invoice", "5"],
        ["receive", "cashuBnonsense"],
        ["pay", "nonsense", "--yes"],
        ["receive", TOKEN.encode()],
        ["decode", "nonsense"],
        ["decode", "cashuBnonsense"],
        ["decode", "creqAnonsense"],
        ["mints", "add", "http://127.0.0.1:9"],
        ["mints", "remove", "http://127.0.0.1:9"],
        ["mints", "info", "nonsense"],
        ["gateways", "add", "nonsense"],
        ["gateways", "trust", "http://127.0.0.1:9"],
        ["quote", "no-such-file"],
    ],
)
def test_what_cannot_be_done_is_one_line_and_exit_code_1(arguments: list[str], run: Run) -> None:
    code, out, err = run(*arguments)
    assert (code, out, len(err.splitlines())) == (1, "", 1)
    assert err.startswith("otrta: ")
    assert "error in otrta itself" not in err


def test_a_wrong_setting_is_named(run: Run, home: Path) -> None:
    home.mkdir()
    (home / "config.toml").write_text("[budgets]\nper_day_sat = -1\n")
    code, _, err = run("balance")
    assert code == 1
    assert "budgets.per_day_sat" in err


def test_a_recovery_that_does_not_end_is_given_up(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wallet_commands, "RECOVER_S", 0.0)
    left = {"open": 2, "disputed": 0, "unswapped": 0}
    monkeypatch.setattr(wallet_link.WalletLink, "act", lambda _link, _action, **_params: left)
    assert run("recover") == (1, "", "otrta: 2 still open: see `otrta pending`, and try again later\n")
    code, out, _ = run("recover", "--json")
    assert (code, json.loads(out)) == (1, left)


# --- decode ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [3, 4])
@pytest.mark.parametrize("as_json", [False, True])
def test_a_token_is_decoded_without_its_secrets(version: int, as_json: bool, run: Run, home: Path) -> None:
    code, out, err = run("decode", TOKEN.encode(version), *(["--json"] if as_json else []))
    assert (code, err) == (0, "")
    for told in ("https://mint.example", "sat", "10", "thanks", "009a1f293253e41e"):
        assert told in out
    for secret in ("secret-one", "secret-two", POINT):
        assert secret not in out
    assert not home.exists()


def test_decode_reads_standard_input(run: Run) -> None:
    told = json.loads(run("decode", "-", "--json", stdin=f"cashu:{TOKEN.encode()}\n")[1])
    assert told == {
        "type": "token",
        "mint": "https://mint.example",
        "unit": "sat",
        "amount": 10,
        "memo": "thanks",
        "proofs": 2,
        "amounts": [2, 8],
        "keysets": ["009a1f293253e41e"],
        "locked": False,
        "dleq": False,
    }


@pytest.mark.parametrize("form", ["creqA", "creqB"])
@pytest.mark.parametrize("wrap", ["{}", "cashu:{}", "bitcoin:?creq={}"])
def test_a_payment_request_is_decoded(run: Run, form: str, wrap: str) -> None:
    lock = Nut10Option("P2PK", "02" + "ab" * 32)
    text = wrap.format(
        PaymentRequest(amount=5, unit="msat", mints=("https://mint.example",), nut10=lock).encode(form)
    )
    told = json.loads(run("decode", text, "--json")[1])
    assert (told["type"], told["amount"], told["unit"]) == ("payment_request", 5, "msat")
    assert (told["mints"], told["lock"]) == (["https://mint.example"], "P2PK")
    assert "https://mint.example" in run("decode", text)[1]


# --- config ---------------------------------------------------------------------------------------------


def test_the_seed_is_shown_after_a_yes_only(run: Run) -> None:
    code, out, err = run("config", "seed", stdin="n\n")
    assert (code, out) == (1, "")
    assert "stopped before it was done" in err
    code, words, _ = run("config", "seed", "--yes")
    assert (code, len(words.split())) == (0, 12)
    assert run("config", "seed", stdin="y\n")[1] == words
    assert json.loads(run("config", "seed", "--yes", "--json")[1]) == {"words": words.strip()}


def test_the_path_of_the_settings_is_told(run: Run, home: Path) -> None:
    assert run("config", "path")[1].strip() == str(home / "config.toml")
    assert json.loads(run("config", "path", "--json")[1])["exists"] is False


# --- the way to the wallet --------------------------------------------------------------------------------


def test_while_the_lock_is_free_nobody_is_asked_whatever_a_stale_file_says(run: Run, home: Path) -> None:
    run("balance")
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        stranger.settimeout(0.2)
        serve_file = {"pid": os.getpid(), "port": stranger.getsockname()[1]}
        (home / SERVE_FILE).write_text(json.dumps(serve_file))
        (home / TOKEN_FILE).write_text("token")
        assert run("receive", "cashuBabc")[0] == 1
        with pytest.raises(TimeoutError):
            stranger.accept()


@pytest.mark.parametrize(
    "left",
    [
        None,
        "not json",
        "[]",
        '{"pid": 99999999, "port": 1}',
        '{"pid": "x", "port": 1}',
        '{"pid": OURS, "port": 1}',
    ],
)
def test_a_wallet_that_another_process_has_is_waited_for_and_then_said_to_be_busy(
    left: str | None, run: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wallet_link, "BUSY_S", 0.2)
    home.mkdir()
    if left is not None:
        (home / SERVE_FILE).write_text(left.replace("OURS", str(os.getpid())))
        (home / TOKEN_FILE).write_text("token")
    with sole_owner(f"sqlite:///{home / WALLET_FILE}"):
        code, out, err = run("balance")
    assert (code, out) == (1, "")
    assert err == (f"otrta: another process has the wallet in {home} open: wait for it to end, or stop it\n")
    assert run("balance")[0] == 0


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nhi!", b"SMTP\r\n\r\n"])
def test_an_answer_that_is_none_is_one_sentence(answer: bytes, run: Run, home: Path) -> None:
    import threading

    home.mkdir()

    def serve_once(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(65_536)
            connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        (home / SERVE_FILE).write_text(json.dumps({"pid": os.getpid(), "port": listener.getsockname()[1]}))
        (home / TOKEN_FILE).write_text("token")
        thread = threading.Thread(target=serve_once, args=(listener,))
        thread.start()
        with sole_owner(f"sqlite:///{home / WALLET_FILE}"):
            code, out, err = run("balance")
        thread.join()
    assert (code, out, len(err.splitlines())) == (1, "", 1)
    assert "otrta serve" in err


# --- with a mint ------------------------------------------------------------------------------------------


@pytest.mark.integration
def test_an_invoice_is_shown_and_waited_for(run: Run, mint: Running) -> None:
    run("mints", "add", mint.url)
    code, out, _ = run("invoice", "2500msat")
    assert code == 0
    assert "lnbc" in out
    assert "█" in out
    assert out.splitlines()[-1] == "Paid: 2.500 sat are in the wallet."
    code, out, err = run("invoice", "10", "--json")
    told: dict[str, Any] = json.loads(out)
    assert (code, err) == (0, "")
    assert told.pop("quote_id")
    assert told.pop("request").startswith("lnbc")
    assert told == {"amount_msat": 10_000, "mint": mint.url, "unit": "msat", "state": "issued"}
    assert json.loads(run("balance", "--json")[1])["available_msat"] == 12_500


@pytest.mark.integration
def test_an_invoice_that_nobody_waits_for_is_open(run: Run, mint: Running) -> None:
    run("mints", "add", mint.url)
    assert json.loads(run("invoice", "10", "--no-wait", "--json")[1])["state"] == "open"
    assert "otrta recover" in run("invoice", "10", "--no-wait")[1]
    assert run("recover")[0] == 0
    assert json.loads(run("balance", "--json")[1])["available_msat"] == 20_000


@pytest.mark.integration
def test_an_invoice_that_expires_is_given_up(
    run: Run, mint: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("mints", "add", mint.url)
    act = wallet_link.WalletLink.act

    def never_paid(link: wallet_link.WalletLink, action: str, **params: Any) -> Any:
        if action == "claim_invoice":
            return {"paid": False}
        return act(link, action, **params) | {"expiry": 1}

    monkeypatch.setattr(wallet_link.WalletLink, "act", never_paid)
    code, out, err = run("invoice", "10", "--json")
    assert (code, out) == (1, "")
    assert "expired" in err


@pytest.mark.integration
def test_a_mint_that_is_away_for_a_moment_does_not_end_the_waiting(
    run: Run, mint: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("mints", "add", mint.url)
    monkeypatch.setattr(wallet_commands, "_POLL_FIRST_S", 0.01)
    act = wallet_link.WalletLink.act
    failures = ["mint_unreachable", "no_answer", "wallet_busy"]

    def away(link: wallet_link.WalletLink, action: str, **params: Any) -> Any:
        if action == "claim_invoice" and failures:
            raise wallet_link.ActionFailed("away", failures.pop())
        return act(link, action, **params)

    monkeypatch.setattr(wallet_link.WalletLink, "act", away)
    assert json.loads(run("invoice", "10", "--json")[1])["state"] == "issued"


@pytest.fixture
def bolt11(fee_mint: Running) -> str:
    """An invoice of somebody else's over 10 sat."""
    return anyio.run(strangers_invoice, fee_mint.url, 10_000)


@pytest.mark.integration
def test_an_invoice_is_paid_after_a_yes_and_what_it_cost_is_told(
    funded: Run, bolt11: str, mint: Running
) -> None:
    code, out, err = funded("pay", bolt11, stdin="n\n")
    assert (code, out) == (
        1,
        f"10 sat to the invoice, and at most 2 sat for the way there, from {mint.url}.\n",
    )
    assert "nothing was paid" in err
    assert funded("pay", bolt11)[0] == 1
    assert "100 sat can be spent" in funded("balance")[1]
    code, out, err = funded("pay", "-", "--yes", stdin=f"lightning:{bolt11}\n")
    assert (code, err) == (0, "")
    assert out.splitlines()[-1] == "Paid 10 sat and 1 msat in fees."
    assert "89.999 sat can be spent" in funded("balance")[1]
    assert "-10.001 sat" in funded("history")[1]
    code, out, err = funded("pay", bolt11, "--yes")
    assert (code, out) == (1, "")
    assert "paid this invoice already" in err


@pytest.mark.integration
def test_a_payment_as_json(funded: Run, bolt11: str, mint: Running) -> None:
    code, out, err = funded("pay", bolt11, "--json")
    told = json.loads(out)
    assert (code, err, len(told.pop("preimage"))) == (0, "", 64)
    assert told == {
        "state": "paid",
        "amount_msat": 10_000,
        "fee_msat": 1,
        "mint": mint.url,
        "unit": "msat",
        "error": None,
    }


@pytest.mark.integration
def test_a_fee_above_the_limit_is_not_paid(funded: Run, bolt11: str, monkeypatch: pytest.MonkeyPatch) -> None:
    code, out, err = funded("pay", bolt11, "--json", "--max-fee", "1999msat")
    assert (code, out) == (1, "")
    assert "--max-fee" in err
    monkeypatch.setattr(pay_command, "UNASKED_LEAST_MSAT", 0)
    assert funded("pay", bolt11, "--yes")[0] == 1  # 2 sat are 20 % of it
    assert "100 sat can be spent" in funded("balance")[1]
    assert funded("pay", bolt11, "--json", "--max-fee", "2")[0] == 0


@pytest.mark.integration
def test_a_payment_that_takes_its_time_is_waited_for(
    funded: Run, bolt11: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pay_command, "_POLL_FIRST_S", 0.01)
    act = wallet_link.WalletLink.act
    answers = ["pending", "wallet_busy", "no_answer", "pending"]

    def slow(link: wallet_link.WalletLink, action: str, **params: Any) -> Any:
        if action == "pay":
            act(link, action, **params)
            raise wallet_link.ActionFailed("no answer", "no_answer")
        if action == "pay_status" and answers:
            state = answers.pop(0)
            if state != "pending":
                raise wallet_link.ActionFailed(state, state)
            return act(link, action, **params) | {"state": state}
        return act(link, action, **params)

    monkeypatch.setattr(wallet_link.WalletLink, "act", slow)
    assert json.loads(funded("pay", bolt11, "--json")[1])["state"] == "paid"
    assert answers == []


def test_a_payment_that_is_not_waited_for_and_one_that_fails(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pay_command, "_POLL_FIRST_S", 0.01)
    told: list[dict[str, Any] | type[BaseException]] = []

    def act(_link: wallet_link.WalletLink, action: str, **_params: Any) -> Any:
        if action == "pay_quote":
            return {"quote_id": "q", "amount_msat": 1000, "fee_reserve_msat": 0, "mint": "m", "unit": "msat"}
        answer = told.pop(0)
        if isinstance(answer, dict):
            return {"amount_msat": 1000, "fee_msat": 0, "mint": "m", "preimage": None, "error": None} | answer
        raise answer

    monkeypatch.setattr(wallet_link.WalletLink, "act", act)
    told[:] = [{"state": "pending"}]
    assert "otrta recover" in run("pay", "lnbc", "--yes", "--no-wait")[1]
    told[:] = [{"state": "pending"}, KeyboardInterrupt]
    code, _, err = run("pay", "lnbc", "--yes")
    assert (code, "`otrta pending` shows the payment" in err) == (1, True)
    told[:] = [{"state": "pending"}, {"state": "failed", "error": "no way there"}]
    assert run("pay", "lnbc", "--json") == (1, "", "otrta: no way there\n")


@pytest.mark.integration
def test_a_sent_token_is_listed_shown_again_and_taken_back(funded: Run) -> None:
    code, token, err = funded("send", "10", "--memo", "for you")
    assert (code, err) == (0, "")
    second = json.loads(funded("send", "5", "--json")[1])
    assert "2 tokens sent and not claimed yet, 15 sat" in funded("pending")[1]
    assert json.loads(funded("pending", "--json")[1]) == []
    code, listed, err = funded("send", "--list")
    assert (code, err, "for you" in listed, second["id"][:12] in listed) == (0, "", True, True)
    first, told = json.loads(funded("send", "--list", "--json")[1])
    assert told.pop("since") >= first["since"]
    assert told == {
        "id": second["id"],
        "amount_msat": 5000,
        "mint": second["mint"],
        "unit": "msat",
        "memo": None,
    }
    assert funded("send", "--show", first["id"][:12]) == (0, token, "")
    assert json.loads(funded("send", "--show", first["id"], "--json")[1])["token"] == token.strip()
    assert funded("send", "--cancel", first["id"]) == (0, "Took 10 sat back.\n", "")
    code, out, err = funded("send", "--cancel", first["id"])
    assert (code, out, "otrta send --list" in err) == (1, "", True)
    assert funded("receive", second["token"])[0] == 0
    assert "has been claimed or taken back" in funded("send", "--list")[1]
    assert "sent and not claimed" not in funded("pending")[1]


def test_an_invoice_that_nobody_waits_for_is_listed_and_claimed(run: Run, mint: Running) -> None:
    assert run("mints", "add", mint.url)[0] == 0
    asked = json.loads(run("invoice", "5", "--no-wait", "--json")[1])
    code, out, err = run("invoice", "--list")
    assert (code, asked["quote_id"] in out, "5 sat" in out, err) == (0, True, True, "")
    [listed] = json.loads(run("invoice", "--list", "--json")[1])
    assert (listed["state"], listed["amount_msat"]) == ("open", 5000)
    claimed = (0, "Paid: 5 sat are in the wallet.\n", "")
    assert run("invoice", "--claim", asked["quote_id"]) == claimed
    assert run("invoice", "--claim", asked["quote_id"]) == claimed
    assert "No invoice is waiting" in run("invoice", "--list")[1]
    assert run("recover", "--all") == (0, "Nothing is open.\n", "")


@pytest.mark.integration
def test_a_locked_token_is_taken_with_its_key_and_back_when_its_time_is_over(funded: Run) -> None:
    key = funded("config", "pubkey")[1].strip()
    assert json.loads(funded("config", "pubkey", "--json")[1]) == {"pubkey": key}
    ours = json.loads(funded("send", "5", "--lock", key, "--json")[1])
    lock = read_lock(Token.parse(ours["token"]).proofs[0].secret)
    assert lock is not None
    assert lock.locktime is not None
    assert (lock.data, lock.refund) == (key, (key,))
    assert 29 * 86_400 < lock.locktime - time.time() < 31 * 86_400
    assert funded("receive", ours["token"]) == (0, "Received 5 sat.\n", "")

    stranger = schnorr.public_key(b"\x05" * 32)
    theirs = json.loads(funded("send", "5", "--lock", stranger, "--refund-after", "never", "--json")[1])
    assert read_lock(Token.parse(theirs["token"]).proofs[0].secret) == P2PK(stranger)
    for refused in (("receive", theirs["token"]), ("send", "--cancel", theirs["id"])):
        code, out, err = funded(*refused)
        assert (code, out, "locked" in err) == (1, "", True)


def test_at_least_an_amount_says_how_much_it_became(funded: Run) -> None:
    funded("send", "4msat")  # takes pieces that the next amounts need
    funded("send", "4msat")
    code, token, err = funded("send", "4msat", "--at-least")
    amount = Token.parse(token.strip()).amount
    assert (code, amount > 4, err) == (0, True, f"It is of {amount} msat.\n")
    assert funded("send", "64msat", "--at-least")[2] == ""


def test_send_prints_the_token_alone_and_receive_takes_it_from_standard_input(funded: Run) -> None:
    code, token, err = funded("send", "10")
    assert (code, err) == (0, "")
    assert Token.parse(token).amount == 10_000
    code, out, _ = funded("receive", "-", stdin=token)
    assert (code, out) == (0, "Received 10 sat.\n")
    code, _, err = funded("receive", token.strip())
    assert (code, err) == (1, "otrta: the token has been spent already\n")
    sent = json.loads(funded("send", "7msat", "--json")[1])
    assert Token.parse(sent["token"]).amount == sent["amount_msat"] == 7
    assert "100 sat" not in funded("balance")[1]


@pytest.mark.integration
def test_what_there_is_and_what_happened_is_shown_to_people(funded: Run, mint: Running) -> None:
    funded("send", "2500msat")
    balance = funded("balance")[1]
    assert "97.500 sat can be spent" in balance
    assert "2.500 sat pending" in balance
    assert mint.url in balance
    send, invoice = funded("history")[1].splitlines()
    assert ("-2.500 sat" in send, "+100 sat" in invoice) == (True, True)
    assert f"{mint.url}  msat, sat  97.500 sat" in funded("mints")[1]
    assert "keyset" in funded("mints", "info", mint.url)[1]
    code, _, err = funded("mints", "remove", mint.url)
    assert (code, "otrta send AMOUNT" in err) == (1, True)


@pytest.mark.integration
def test_the_real_gateway_is_added_looked_at_and_quoted(
    funded: Run, gateway: Running, tmp_path: Path
) -> None:
    assert funded("gateways", "add", f"{gateway.url}/v1")[1] == f"Added {gateway.url}.\n"
    assert "demo-chat" in funded("gateways", "info", gateway.url)[1]
    body = {"model": "demo-chat", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 20}
    request = tmp_path / "request.json"
    request.write_text(json.dumps(body))
    assert funded("quote", str(request))[1] == f"{gateway.url}  at most 150 msat\n"
    quoted = json.loads(funded("quote", "-", "--json", stdin=json.dumps(body))[1])
    assert quoted["quotes"][0]["quote_msat"] == 150
    assert funded("gateways", "remove", gateway.url)[0] == 0
