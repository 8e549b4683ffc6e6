"""What a served client leaves on the disk and in its log: neither what was said nor what was spent."""

import json
import secrets
from contextlib import suppress
from functools import partial
from pathlib import Path

import httpx
import pytest
import trio

from otrta_cli.processes import Running, free_port, run_otrta, start_client
from tests.integration.honest import remember, trade
from tests.integration.purse import Purse
from tests.integration.scripted_gateway import (
    ANSWER,
    Script,
    ScriptedGateway,
    Seen,
    answer,
    ask,
    die,
    scripted_gateway,
    then,
    write,
)

pytestmark = [pytest.mark.integration, pytest.mark.trio]

FUNDS = 20_000
PROMPT, REPLY, APP_KEY = (f"{word}-{secrets.token_hex(8)}" for word in ("prompt", "reply", "sk-app"))


def echo(status: int) -> Script:
    """A refusal that quotes what it got, token and all."""

    async def script(gateway: ScriptedGateway, stream: trio.SocketStream, seen: Seen) -> None:
        quoted = f"{REPLY} {seen.body.decode()} {dict(seen.headers).get('x-cashu')}"
        await answer(status, {"error": {"message": quoted, "code": quoted}})(gateway, stream, seen)

    return script


SCRIPTS: tuple[Script, ...] = (
    trade(),
    trade(stream=True),
    ask(700),
    trade(),
    echo(400),
    trade(0, status=500),
    trade(says=False),
    then(write(f"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{REPLY}"), die),
    then(write(f"{REPLY} is not HTTP\r\n\r\n"), die),
    answer(200, json.dumps({**json.loads(ANSWER), "note": REPLY}).encode()),
    trade(),
)
BODY = {
    "model": "m",
    "messages": [{"role": "user", "content": PROMPT}],
    "max_tokens": 50,
    "user": f"{PROMPT}-user",
}


async def test_nothing_that_was_said_or_spent_is_left_behind(
    tmp_path: Path, mint: Running, purse: Purse
) -> None:
    home, log = tmp_path / "home", tmp_path / "client.log"
    home.mkdir(mode=0o700)
    (home / "config.toml").write_text("[privacy]\nswap_delay_s = 0.5\n")
    run = partial(trio.to_thread.run_sync, abandon_on_cancel=False)
    funding = (await trio.to_thread.run_sync(purse.token, FUNDS)).encode()
    async with scripted_gateway(purse, *SCRIPTS, claim=remember) as gateway:
        client = start_client(home, free_port(), log=log)  # it ends with the thread that starts it
        try:
            otrta = partial(run_otrta, home)
            for arguments in (
                ("mints", "add", mint.url),
                ("gateways", "add", gateway.url),
                ("receive", funding),
            ):
                await run(partial(otrta, *arguments))
            async with httpx.AsyncClient(base_url=client.url, trust_env=False, timeout=60) as app:
                for _ in range(2 * len(SCRIPTS)):
                    if not gateway.calls:
                        break
                    with suppress(httpx.RemoteProtocolError):
                        await app.post(
                            "/v1/chat/completions",
                            json={**BODY, "stream": len(gateway.calls) % 2 == 0},
                            headers={"Authorization": f"Bearer {APP_KEY}"},
                        )
            await run(partial(otrta, "recover"))
            shown = [
                str(await run(partial(otrta, *words))) for words in (("history",), ("pending",), ("balance",))
            ]
        finally:
            await trio.to_thread.run_sync(client.stop)
    assert gateway.calls == []
    texts = [dict(seen.headers)["x-cashu"] for seen in gateway.seen if "x-cashu" in dict(seen.headers)]
    assert len(texts) >= len(SCRIPTS) - 1
    gone = [text for text in (*texts, *gateway.given.values(), funding) if text]
    files = {path: path.read_bytes() for path in [log, *home.rglob("*")] if path.is_file()}
    assert any(path.name == "wallet.sqlite3" for path in files)
    assert not any(path.name.endswith("-wal") for path in files)
    for word in (PROMPT, REPLY, APP_KEY, *gone):
        assert [path.name for path, data in files.items() if word.encode() in data] == []
        assert not any(word in told for told in shown)
    said = b"".join(data for path, data in files.items() if path.name != "wallet.sqlite3")
    assert not any(secret.encode() in said for secret in purse.handled)
