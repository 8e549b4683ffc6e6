"""What a customer of the soak has: one token, which pays each call whole and comes back as change."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import anyio
import httpx

from otrta_core import OtrtaError, Token

CHANGE = "/v1/cashu/change"
PATIENCE_S = 180.0
"""How long a customer asks what became of a token; a killed gateway is up again by then."""

ASK_EVERY_S = 0.5


@dataclass
class Books:
    """What all customers saw.

    Attributes:
        counted: calls and answers, by what they were.
        stuck: tokens that the mint holds as pending for ever, by their first Y.
        wrong: what must never happen, in words.
        calls: how many there were.
    """

    counted: Counter[str] = field(default_factory=Counter)
    stuck: dict[str, Token] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    calls: int = 0


@dataclass
class Purse:
    """One customer's money.

    Attributes:
        token: what the next call pays with.
        reserve: takes its place when the mint holds it for ever.
    """

    token: Token
    reserve: list[Token]
    books: Books
    gateway: str
    mint: str

    def take(self, change: str | None) -> None:
        """Take the change of a call; without any the purse is empty and the reserve comes in."""
        if change is None:
            self._replace()
        else:
            self.token = Token.parse(change)

    def _replace(self) -> None:
        if not self.reserve:
            raise SystemExit("a customer has no money left: give the soak larger tokens")
        self.token = self.reserve.pop()

    async def find_out(self, http: httpx.AsyncClient, *, delivered: bool = False) -> int | None:
        """Ask what became of the token, take what is left of it, and return what it cost in msat.

        None where the gateway never took it: it is as good as before. ``delivered`` says that a whole
        answer came, which must not be free.
        """
        deadline = anyio.current_time() + PATIENCE_S
        unknown = 0
        while anyio.current_time() < deadline:
            reply = await self._ask(http)
            if reply is not None and reply.status_code == 200:
                said = reply.json()
                self.take(reply.headers.get("x-cashu"))
                return int(said["cost_msat"])
            unknown = unknown + 1 if reply is not None and reply.status_code == 404 else 0
            if unknown >= 2:
                return await self._at_the_mint(http, delivered=delivered)
            await anyio.sleep(ASK_EVERY_S)
        self.books.wrong.append(f"nobody said for {PATIENCE_S:.0f} s what became of {self.token.amount} msat")
        self._replace()
        return None

    async def _ask(self, http: httpx.AsyncClient) -> httpx.Response | None:
        try:
            headers = {"X-Cashu": self.token.encode(), "Content-Type": "application/json"}
            return await http.post(self.gateway + CHANGE, headers=headers, content=b"{}")
        except (httpx.HTTPError, OtrtaError):
            return None

    async def _at_the_mint(self, http: httpx.AsyncClient, *, delivered: bool) -> None:
        states = await ask_states(http, self.mint, [proof.Y for proof in self.token.proofs])
        if states is None:
            return  # the mint is away: the token is tried again, and then its state counts
        if states == {"UNSPENT"}:
            if delivered:
                self.books.wrong.append("an answer was delivered, and the token never taken")
            return
        if "PENDING" in states:
            self.books.stuck[self.token.proofs[0].Y] = self.token
        else:
            self.books.wrong.append(f"{self.token.amount} msat are spent, and the gateway never took them")
        self._replace()


async def ask_states(http: httpx.AsyncClient, mint: str, ys: Iterable[str]) -> set[str] | None:
    """Return the states of proofs at the mint (NUT-07), or None where it does not answer."""
    try:
        reply = await http.post(f"{mint}/v1/checkstate", json={"Ys": list(ys)})
    except httpx.HTTPError:
        return None
    return {state["state"] for state in reply.json()["states"]} if reply.status_code == 200 else None
