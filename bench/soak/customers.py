"""What the customers of the soak do: they pay, stream, fail, hang up, pay twice and send garbage."""

import json
import random
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import anyio
import httpx

from bench.soak.purse import Books, Purse
from otrta_core import Token

PATH = "/v1/chat/completions"
COST_MSAT = 110
"""What a whole demo-chat answer costs."""

PARALLEL = 3
"""How often a token is sent at once by who pays twice."""

Act = Callable[[httpx.AsyncClient, Purse, random.Random], Awaitable[None]]


async def plain(http: httpx.AsyncClient, purse: Purse, _draw: random.Random) -> None:
    """Make a plain call."""
    await _call(http, purse, "demo-chat")


async def failing(http: httpx.AsyncClient, purse: Purse, draw: random.Random) -> None:
    """Make a call that the model fails."""
    await _call(http, purse, draw.choice(("demo-500", "demo-429")), cost=0)


async def buffered(http: httpx.AsyncClient, purse: Purse, _draw: random.Random) -> None:
    """Make a streamed call whose change is in the header."""
    await _call(http, purse, "demo-chat", stream=True)


async def live(http: httpx.AsyncClient, purse: Purse, _draw: random.Random) -> None:
    """Make a live streamed call and read the change in its comments."""
    change, text, whole = None, b"", False
    try:
        async with http.stream("POST", **_request(purse, "demo-chat", live=True, stream=True)) as reply:
            async for line in reply.aiter_lines():
                change = line[10:] if line.startswith(": x-cashu ") else change
                text += line.encode() if line.startswith("data: {") else b""
                whole = whole or line == "data: [DONE]"
            status, header = reply.status_code, reply.headers.get("x-cashu")
    except httpx.HTTPError:
        status, header, whole = 0, None, False
    if status == 200 and change is not None:
        await _settled(purse, change, purse.token.amount - Token.parse(change).amount, COST_MSAT)
    elif status in (0, 200) and not whole:
        await _after_a_break(http, purse)
    else:
        await _judge(http, purse, status, header, None, COST_MSAT)


async def hang_up_streaming(http: httpx.AsyncClient, purse: Purse, draw: random.Random) -> None:
    """Leave a live stream in the middle."""
    with suppress(httpx.HTTPError):
        async with http.stream("POST", **_request(purse, "demo-slow", live=True, stream=True)) as reply:
            left = draw.randint(1, 6)
            async for line in reply.aiter_lines():
                left -= line.startswith("data: ")
                if left <= 0:
                    break
    await _after_a_break(http, purse)


async def hang_up(http: httpx.AsyncClient, purse: Purse, draw: random.Random) -> None:
    """Leave a plain call before it is answered."""
    with anyio.move_on_after(draw.uniform(0.02, 0.6)):
        with suppress(httpx.HTTPError):
            await http.post(**_request(purse, "demo-slow"))
    await _after_a_break(http, purse)


async def twice(http: httpx.AsyncClient, purse: Purse, _draw: random.Random) -> None:
    """Send one token several times at once: one of them is served."""
    replies: list[httpx.Response] = []

    async def send() -> None:
        try:
            replies.append(await http.post(**_request(purse, "demo-chat")))
        except httpx.HTTPError:
            purse.books.counted["broke_off"] += 1

    async with anyio.create_task_group() as tasks:
        for _ in range(PARALLEL):
            tasks.start_soon(send)
    served = [reply for reply in replies if reply.status_code == 200]
    if len(served) > 1:
        purse.books.wrong.append(f"one token was served {len(served)} times")
    purse.books.counted["told_apart"] += len(replies) - len(served)
    cost = await purse.find_out(http, delivered=bool(served))
    if served and cost is not None and cost != COST_MSAT:
        purse.books.wrong.append(f"a call that was sent several times cost {cost} msat")


async def garbage(http: httpx.AsyncClient, purse: Purse, draw: random.Random) -> None:
    """Send what is no money: it is refused, and no call is made for it."""
    proof = purse.token.proofs[0]
    forged = replace(proof, secret=draw.randbytes(32).hex(), dleq=None)
    texts = (
        replace(purse.token, proofs=(forged,)).encode(),
        "cashuB" + "".join(draw.choices("abcdefgh-_", k=draw.randint(0, 400))),
        purse.token.encode()[: draw.randint(7, 60)],
    )
    request = _request(purse, "demo-chat")
    request["headers"] = {**request["headers"], "X-Cashu": draw.choice(texts)}
    try:
        reply = await http.post(**request)
    except httpx.HTTPError:
        return
    if reply.status_code < 400:
        purse.books.wrong.append("garbage was served")


ACTS: Mapping[Act, int] = {
    plain: 6,
    live: 4,
    buffered: 2,
    failing: 1,
    hang_up_streaming: 1,
    hang_up: 1,
    twice: 1,
    garbage: 1,
}
"""What is done, by how often."""


@dataclass
class Customer:
    """Calls until it is told to stop."""

    purse: Purse
    books: Books
    seed: int

    async def run(self, http: httpx.AsyncClient, stop: anyio.Event) -> None:
        """Make one call after the other."""
        draw = random.Random(self.seed)  # which call comes next is no secret
        while not stop.is_set():
            act = draw.choices(list(ACTS), weights=list(ACTS.values()))[0]
            self.books.counted[act.__name__] += 1
            self.books.calls += 1
            await act(http, self.purse, draw)


async def _call(
    http: httpx.AsyncClient, purse: Purse, model: str, *, stream: bool = False, cost: int = COST_MSAT
) -> None:
    try:
        reply = await http.post(**_request(purse, model, stream=stream))
    except httpx.HTTPError:
        await _after_a_break(http, purse)
        return
    await _judge(
        http,
        purse,
        reply.status_code,
        reply.headers.get("x-cashu"),
        reply.headers.get("x-otrta-cost-msat"),
        cost,
    )


async def _judge(
    http: httpx.AsyncClient, purse: Purse, status: int, change: str | None, cost: str | None, wanted: int
) -> None:
    """Take the change of a whole answer, or find out what became of the token."""
    books = purse.books
    books.counted[f"http_{status}"] += 1
    if change is not None and change.startswith("cashu") and cost is not None:
        await _settled(purse, change, int(cost), wanted if status == 200 else 0)
        return
    cost_found = await purse.find_out(http, delivered=status == 200)
    if status == 200 and cost_found is not None and cost_found != wanted:
        books.wrong.append(f"a whole answer cost {cost_found} msat")


async def _settled(purse: Purse, change: str, cost: int, wanted: int) -> None:
    token = Token.parse(change)
    if purse.token.amount != token.amount + cost:
        purse.books.wrong.append(f"{purse.token.amount} msat became {token.amount} and a cost of {cost}")
    if cost != wanted:
        purse.books.wrong.append(f"a call cost {cost} msat instead of {wanted}")
    purse.token = token
    purse.books.counted["settled"] += 1


async def _after_a_break(http: httpx.AsyncClient, purse: Purse) -> None:
    purse.books.counted["broke_off"] += 1
    await purse.find_out(http)


def _request(purse: Purse, model: str, *, stream: bool = False, live: bool = False) -> dict[str, Any]:
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}], "stream": stream}
    headers = {"X-Cashu": purse.token.encode(), "Content-Type": "application/json"}
    if live:
        headers["X-Cashu-Change"] = "sse"
    return {"url": purse.gateway + PATH, "headers": headers, "content": json.dumps(body).encode()}
