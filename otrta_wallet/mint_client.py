"""Talking to one mint over HTTP (NUT-01 to 09, 19, 23).

Replies are read to a bound, parsed by pydantic, and every failure becomes one of three errors: nothing was
sent, the mint refused, or the outcome is unknown. A mint that is asked too much is left alone for a while.
"""

import json
import logging
import re
import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Annotated, Any, Literal, TypeVar

import anyio
import httpx
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError

from otrta_core import Keyset, KeysetError, Proof
from otrta_wallet import rate_limit
from otrta_wallet.errors import MintBusy, MintRefused, MintUnreachable, OutcomeUnknown
from otrta_wallet.rate_limit import RateLimit

MAX_REPLY_BYTES = 8 << 20
CALL_S = 60.0
"""How long one call may take in all, however slowly its reply drips."""
TRIES = 3
_FIRST_PAUSE_S = 0.2
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)

MINT_PATH, MELT_PATH, SWAP_PATH = "/v1/mint/bolt11", "/v1/melt/bolt11", "/v1/swap"
_TOO_MANY, _UNAVAILABLE = 429, 503
_NOT_DECIDED = frozenset({408, 425, 429})
"""Answers of 4xx that say nothing about whether the request was or will be carried out."""
_LONGEST_RECEIPT = 200
_LONG_WORD = re.compile(r"[0-9A-Za-z+/_=-]{24,}")

Hex = Annotated[str, StringConstraints(pattern=r"^[0-9a-fA-F]+$", max_length=130, to_lower=True)]
Count = Annotated[int, Field(ge=0, lt=2**63)]
NO_NUL = r"^[^\x00]*$"  # PostgreSQL cannot store one
ProofState = Literal["UNSPENT", "PENDING", "SPENT"]
QuoteState = Literal["UNPAID", "PAID", "ISSUED", "PENDING"]
PaymentState = Literal["UNPAID", "PENDING", "PAID"]


class _Reply(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class DleqReply(_Reply):
    """The DLEQ of a blind signature (NUT-12)."""

    e: Hex
    s: Hex


class BlindSignature(_Reply):
    """A promise of the mint (NUT-00)."""

    amount: Count
    id: Hex
    C_: Hex
    dleq: DleqReply | None = None


class BlindedMessage(_Reply):
    """An output sent to the mint (NUT-00)."""

    amount: Count
    id: Hex
    B_: Hex


class _Signatures(_Reply):
    signatures: Annotated[list[BlindSignature], Field(max_length=10_000)]


class Restored(_Signatures):
    """The outputs that the mint has signed before, with their signatures (NUT-09)."""

    outputs: Annotated[list[BlindedMessage], Field(max_length=10_000)]


class _State(_Reply):
    Y: Hex
    state: ProofState


class _States(_Reply):
    states: Annotated[list[_State], Field(max_length=10_000)]


class KeysetEntry(_Reply):
    """A line of the mint's list of keysets (NUT-02); its id may be of a form that is no longer used."""

    id: Annotated[str, StringConstraints(max_length=130)]
    unit: Annotated[str, StringConstraints(pattern=NO_NUL, min_length=1, max_length=32)]
    active: bool
    input_fee_ppk: Count | None = None
    final_expiry: Count | None = None


class _Keysets(_Reply):
    keysets: Annotated[list[KeysetEntry], Field(max_length=10_000)]


class _Keys(_Reply):
    id: Hex
    unit: str
    keys: Annotated[dict[Annotated[int, Field(gt=0, lt=2**64)], Hex], Field(max_length=256)]


class _KeysReply(_Reply):
    keysets: Annotated[list[_Keys], Field(max_length=1000)]


class MintQuote(_Reply):
    """A request for payment that the mint made (NUT-04, NUT-23)."""

    quote: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,200}$"), Field(repr=False)]
    request: Annotated[str, StringConstraints(pattern=NO_NUL, max_length=8192)]
    amount: Count | None = None
    unit: str | None = None
    state: QuoteState
    expiry: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None


def _receipt(value: object) -> str | None:
    # whatever a mint gives for a receipt, it must not hold up the money that comes with it
    if not isinstance(value, str) or len(value) > _LONGEST_RECEIPT or not value.isprintable():
        return None
    return value


class MeltReply(_Reply):
    """How the payment of an invoice stands (NUT-05, NUT-08, NUT-23)."""

    quote: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,200}$"), Field(repr=False)]
    request: Annotated[Annotated[str, StringConstraints(max_length=8192)] | None, Field(repr=False)] = None
    amount: Count
    unit: str | None = None
    fee_reserve: Count
    state: PaymentState
    expiry: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    payment_preimage: Annotated[str | None, BeforeValidator(_receipt), Field(repr=False)] = None
    change: Annotated[list[BlindSignature], Field(max_length=1000)] | None = None


class MintInfo(_Reply):
    """What the mint says of itself (NUT-06); only what the wallet uses."""

    name: Annotated[str, StringConstraints(pattern=NO_NUL, max_length=1000)] | None = None
    version: Annotated[str, StringConstraints(max_length=200)] | None = None
    nuts: dict[str, Any] = {}

    def supports(self, *nuts: str) -> bool:
        """Tell whether the mint lists each of these NUTs, by number, as supported."""
        listed = [self.nuts.get(nut) for nut in nuts]
        return all(isinstance(nut, dict) and nut.get("supported") is True for nut in listed)

    def answers_kept_s(self, path: str) -> float:
        """Return for how long an identical POST to a path gets the same answer (NUT-19), in seconds."""
        try:
            kept = _Cached.model_validate(self.nuts.get("19"))
        except ValidationError:
            return 0.0
        if not any((each.method.upper(), each.path) == ("POST", path) for each in kept.cached_endpoints):
            return 0.0
        return float("inf") if kept.ttl is None else float(kept.ttl)


class _CachedEndpoint(_Reply):
    method: Annotated[str, StringConstraints(max_length=10)]
    path: Annotated[str, StringConstraints(max_length=200)]


class _Cached(_Reply):
    ttl: Count | None = None
    cached_endpoints: Annotated[list[_CachedEndpoint], Field(max_length=1000)]


_R = TypeVar("_R", bound=_Reply)


class MintClient:
    """One mint's API. Thin: it decides nothing, and keeps only how long the mint wants to be left alone.

    Every method raises MintUnreachable (nothing was sent), MintRefused (the mint's error) or
    OutcomeUnknown (anything else, a malformed reply included; MintBusy where the mint said that it is asked
    too much). Calls that change nothing are tried ``TRIES`` times, and for ``WAIT_S`` in all where the mint
    is busy. Every call waits for the end of the mint's pause, or raises MintUnreachable where that is longer
    than ``WAIT_S``. A cancelled call may or may not have been carried out.
    """

    def __init__(self, url: str, client: httpx.AsyncClient) -> None:
        self.url = url
        self._client = client
        self._limit = RateLimit()

    async def info(self, *, tries: int = TRIES) -> MintInfo:
        """Ask for the mint's information (NUT-06)."""
        return await self._ask("GET", "/v1/info", MintInfo, tries=tries)

    async def keysets(self) -> list[KeysetEntry]:
        """List all keysets, active or not (NUT-02)."""
        return (await self._ask("GET", "/v1/keysets", _Keysets)).keysets

    async def keyset(self, entry: KeysetEntry) -> Keyset:
        """Fetch the keys of a keyset and check that its id belongs to them (NUT-01, NUT-02).

        Raises:
            KeysetError: the mint sent other keys, or ones that do not fit the id.
        """
        reply = await self._ask("GET", f"/v1/keys/{entry.id}", _KeysReply)
        found = next((k for k in reply.keysets if k.id == entry.id), None)
        if found is None or found.unit != entry.unit:
            raise KeysetError("the mint does not show the keys of a keyset that it lists")
        keyset = Keyset(
            entry.id, entry.unit, found.keys, entry.input_fee_ppk or 0, entry.final_expiry, entry.active
        )
        keyset.verify_id()
        return replace(keyset, final_expiry=keyset.final_expiry or None)

    async def request_mint_quote(self, amount: int, unit: str) -> MintQuote:
        """Ask for a bolt11 invoice of ``amount`` (NUT-23)."""
        body = {"amount": amount, "unit": unit}
        return await self._ask("POST", "/v1/mint/quote/bolt11", MintQuote, body, tries=1)

    async def mint_quote(self, quote_id: str) -> MintQuote:
        """Ask for the state of a quote (NUT-04)."""
        return await self._ask("GET", f"/v1/mint/quote/bolt11/{quote_id}", MintQuote)

    async def mint(self, quote_id: str, outputs: Sequence[Mapping[str, Any]]) -> list[BlindSignature]:
        """Have the outputs of a paid quote signed (NUT-04); posted once."""
        body = {"quote": quote_id, "outputs": list(outputs)}
        return (await self._once(MINT_PATH, body, _Signatures)).signatures

    async def swap(
        self, inputs: Sequence[Proof], outputs: Sequence[Mapping[str, Any]]
    ) -> list[BlindSignature]:
        """Spend ``inputs`` and have ``outputs`` signed (NUT-03); posted once."""
        body = {"inputs": [_input(proof) for proof in inputs], "outputs": list(outputs)}
        return (await self._once(SWAP_PATH, body, _Signatures)).signatures

    async def request_melt_quote(self, request: str, unit: str) -> MeltReply:
        """Ask what it costs to have a bolt11 invoice paid (NUT-23)."""
        body = {"request": request, "unit": unit}
        return await self._ask("POST", "/v1/melt/quote/bolt11", MeltReply, body, tries=1)

    async def melt_quote(self, quote_id: str) -> MeltReply:
        """Ask how the payment of an invoice stands (NUT-05)."""
        reply = await self._ask("GET", f"/v1/melt/quote/bolt11/{quote_id}", MeltReply)
        return _of_quote(reply, quote_id)

    async def melt(
        self, quote_id: str, inputs: Sequence[Proof], blanks: Sequence[Mapping[str, Any]]
    ) -> MeltReply:
        """Spend ``inputs`` on the invoice of a quote; posted once (NUT-05).

        The mint may answer only when the payment has ended. Whoever stops waiting before asks
        ``melt_quote`` how it stands; the payment goes on.

        Args:
            quote_id: of the quote.
            inputs: worth the quote's amount, its reserve and their own fee, or more.
            blanks: outputs for what comes back, signed by the mint in this order (NUT-08).
        """
        body = {"quote": quote_id, "inputs": [_input(p) for p in inputs], "outputs": list(blanks)}
        return _of_quote(await self._once(MELT_PATH, body, MeltReply), quote_id)

    async def check_state(self, ys: Sequence[str]) -> dict[str, ProofState]:
        """Ask for the state of proofs by Y (NUT-07); one entry for every Y asked for."""
        states: dict[str, ProofState] = {}
        for at in range(0, len(ys), 500):
            part = list(ys[at : at + 500])
            reply = await self._ask("POST", "/v1/checkstate", _States, {"Ys": part})
            found = {state.Y: state.state for state in reply.states}
            if found.keys() != set(part):
                raise OutcomeUnknown("the mint's answer about states does not match the question")
            states |= found
        return states

    async def restore(self, outputs: Sequence[Mapping[str, Any]]) -> dict[str, BlindSignature]:
        """Ask which outputs the mint has signed before (NUT-09); signatures by B_."""
        signatures: dict[str, BlindSignature] = {}
        for at in range(0, len(outputs), 500):
            body = {"outputs": list(outputs[at : at + 500])}
            reply = await self._ask("POST", "/v1/restore", Restored, body)
            if len(reply.outputs) != len(reply.signatures):
                raise OutcomeUnknown("the mint's answer to a restore does not match itself")
            signatures |= {o.B_: s for o, s in zip(reply.outputs, reply.signatures, strict=True)}
        return signatures

    async def _ask(
        self,
        method: str,
        path: str,
        kind: type[_R],
        body: Mapping[str, Any] | None = None,
        *,
        tries: int = TRIES,
    ) -> _R:
        pause_s = _FIRST_PAUSE_S
        deadline = anyio.current_time() + rate_limit.WAIT_S
        while True:
            try:
                return await self._call(method, path, kind, body)
            except MintBusy:
                now = anyio.current_time()
                if now + self._limit.wait_s(now) > deadline:
                    raise
                continue  # it waits for its turn
            except (MintUnreachable, OutcomeUnknown):
                tries -= 1
                if not tries:
                    raise
            await anyio.sleep(pause_s)
            pause_s *= 3

    async def _once(self, path: str, body: Mapping[str, Any], kind: type[_R]) -> _R:
        return await self._call("POST", path, kind, body)

    async def await_turn(self) -> bool:
        """Wait for the end of the mint's pause, and tell whether there was one.

        Raises:
            MintUnreachable: it is longer than ``WAIT_S``.
        """
        deadline, waited = anyio.current_time() + rate_limit.WAIT_S, False
        while (wait_s := self._limit.wait_s(anyio.current_time())) > 0:
            if anyio.current_time() + wait_s > deadline:
                raise MintUnreachable(
                    f"the mint {self.url} wants to be left alone for {wait_s:.0f} s: nothing was sent"
                )
            await anyio.sleep(wait_s)
            waited = True
        return waited

    async def _call(self, method: str, path: str, kind: type[_R], body: Mapping[str, Any] | None) -> _R:
        await self.await_turn()
        # a compressed reply could unpack to any size: none is asked for, and none is unpacked
        headers = {"Accept-Encoding": "identity"}
        content = None
        if body is not None:  # the same body is the same bytes, by which a mint knows it again (NUT-19)
            headers["Content-Type"] = "application/json"
            content = json.dumps(body, separators=(",", ":")).encode()
        data = bytearray()
        sent_at = anyio.current_time()
        try:
            with anyio.fail_after(CALL_S):
                async with self._client.stream(
                    method, self.url + path, content=content, headers=headers
                ) as response:
                    async for chunk in response.aiter_raw():
                        data += chunk
                        if len(data) > MAX_REPLY_BYTES:
                            await (
                                response.aclose()
                            )  # reading on fails, which ends httpx's generators in order
        except _NOT_SENT as error:
            raise MintUnreachable(f"the mint {self.url} cannot be reached") from error
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
            raise OutcomeUnknown(f"the mint {self.url} did not answer, or too much") from error
        self._note_limit(response, sent_at)
        if response.status_code == 200:
            try:
                return kind.model_validate_json(bytes(data))
            except ValidationError:
                raise OutcomeUnknown("the mint's reply is not what the specs say") from None
        raise _refusal(self.url, response.status_code, bytes(data))

    def _note_limit(self, response: httpx.Response, sent_at: float) -> None:
        """Heed an answer that asks for a pause.

        Raises:
            MintBusy: it does.
        """
        status = response.status_code
        asked_s = rate_limit.retry_after_s(response.headers, time.time())
        if status == _TOO_MANY or (status == _UNAVAILABLE and asked_s is not None):
            self._limit.limited(sent_at, anyio.current_time(), asked_s)
            raise MintBusy(f"the mint {self.url} is asked too much just now (HTTP {status})")
        self._limit.answered(sent_at)


def _of_quote(reply: MeltReply, quote_id: str) -> MeltReply:
    if reply.quote != quote_id:
        raise OutcomeUnknown("the mint answered about another payment than it was asked for")
    return reply


def _refusal(url: str, status: int, data: bytes) -> MintRefused | OutcomeUnknown:
    if status in _NOT_DECIDED or not 400 <= status < 500:
        return OutcomeUnknown(f"the mint {url} answered with HTTP {status}")
    try:
        error = _Error.model_validate_json(data)
    except ValidationError:
        error = _Error()
    detail = _quotable(error.detail) if isinstance(error.detail, str) else "it gave no reason"
    return MintRefused(f"the mint refused: {detail}", status, error.code)


def _quotable(detail: str) -> str:
    # a mint may echo what it was sent: nothing as long as a secret is repeated
    return _LONG_WORD.sub("…", "".join(c for c in detail if c.isprintable()))[:200]


class _Error(_Reply):
    detail: Any = None
    code: int | None = None


def _input(proof: Proof) -> dict[str, Any]:
    # the blinding factor r, in a token's DLEQ, must never reach the mint (NUT-12)
    fields: dict[str, Any] = {"amount": proof.amount, "id": proof.id, "secret": proof.secret, "C": proof.C}
    if proof.witness is not None:
        fields["witness"] = proof.witness
    return fields


class _WithoutQuoteIds(logging.Filter):
    """Takes quote ids out of the request lines that httpx logs: whoever reads one can mint it (NUT-04)."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(_without_quote_id(arg) for arg in record.args)
        return True


def _without_quote_id(arg: object) -> object:
    return re.sub(r"(/quote/[^/]+/).+", r"\1…", str(arg)) if isinstance(arg, httpx.URL) else arg


logging.getLogger("httpx").addFilter(_WithoutQuoteIds())


@cache
def _tls() -> ssl.SSLContext:
    return httpx.create_ssl_context(trust_env=False)  # reads all certificates, so made once only


def mint_transport() -> httpx.AsyncHTTPTransport:
    """Make what carries requests to mints."""
    limits = httpx.Limits(max_connections=64, max_keepalive_connections=16)
    return httpx.AsyncHTTPTransport(verify=_tls(), limits=limits, trust_env=False)


def new_http_client(
    *, timeout_s: float = 30.0, transport: httpx.AsyncBaseTransport | None = None
) -> httpx.AsyncClient:
    """Make the one kind of HTTP client that talks to mints: no proxies from the environment, no redirects."""
    return httpx.AsyncClient(
        transport=mint_transport() if transport is None else transport,
        timeout=httpx.Timeout(timeout_s, connect=10.0),
        follow_redirects=False,
        trust_env=False,
        headers={"User-Agent": "otrta"},
    )
