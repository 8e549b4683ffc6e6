"""Lightning addresses and LNURL-pay: an invoice of an amount from whoever is to be paid (LUD-01, 06, 16, 17).

What the service answers is not trusted: it is read to a bound, within a time, without redirects, over https
(http on this machine only); the invoice must be of the amount asked for and commit to the metadata shown.
"""

import ipaddress
import json
import re
from dataclasses import dataclass
from hashlib import sha256
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlencode, urlsplit

import anyio
import httpx
from pydantic import BaseModel, ConfigDict, Field, StrictInt, StrictStr, ValidationError

from otrta_core import (
    InvoiceError,
    OtrtaError,
    bech32,
    invoice_amount_msat,
    invoice_description_hash,
    normalize_invoice,
)
from otrta_core.amounts import MAX_AMOUNT

ANSWER_WITHIN_S: Final = 15.0
MAX_ANSWER_BYTES: Final = 64 << 10
MAX_URL_CHARACTERS: Final = 2048

_ADDRESS = re.compile(
    r"(?P<user>[a-z0-9_.+-]{1,64})@(?P<host>[a-z0-9.-]{1,253}(?::[0-9]{1,5})?|\[[0-9a-f:]+\](?::[0-9]{1,5})?)"
)


class LnurlError(OtrtaError):
    """No invoice could be had from a Lightning address or LNURL; nothing was paid."""

    code = "lnurl_failed"
    http_status = 502


class _Reply(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class _PayRequest(_Reply):
    tag: Literal["payRequest"]
    callback: Annotated[StrictStr, Field(max_length=MAX_URL_CHARACTERS)]
    minSendable: Annotated[StrictInt, Field(ge=1, le=MAX_AMOUNT)]  # noqa: N815  # LUD-06's own names
    maxSendable: Annotated[StrictInt, Field(ge=1, le=MAX_AMOUNT)]  # noqa: N815
    metadata: StrictStr


class _Invoice(_Reply):
    pr: StrictStr


@dataclass(frozen=True, slots=True)
class PayService:
    """What a service says that it takes: between ``least_msat`` and ``most_msat`` in one payment."""

    callback: str
    least_msat: int
    most_msat: int
    metadata: str


def url_of(destination: str) -> str:
    """Return the URL that a Lightning address or LNURL stands for.

    Raises:
        LnurlError: it is neither, or leads elsewhere than to https (or http on this machine).
    """
    text = destination.strip().lower().removeprefix("lightning:")
    if match := _ADDRESS.fullmatch(text):
        scheme = "http" if is_loopback(urlsplit(f"//{match['host']}").hostname or "") else "https"
        return _safe(f"{scheme}://{match['host']}/.well-known/lnurlp/{match['user']}")
    if text.startswith("lnurlp://"):
        rest = destination.strip()[destination.lower().index("lnurlp://") + 9 :]
        scheme = "http" if is_loopback(urlsplit(f"//{rest}").hostname or "") else "https"
        return _safe(f"{scheme}://{rest}")
    if text.startswith("lnurl1") and len(text) <= MAX_URL_CHARACTERS:
        try:
            return _safe(bech32.decode(text, bech32.Checksum.BECH32)[1].decode("utf-8"))
        except ValueError:
            raise LnurlError("the LNURL cannot be read: copy it again, all of it") from None
    raise LnurlError("this is no Lightning address (name@host) and no LNURL (lnurl1…)")


async def ask_service(http: httpx.AsyncClient, destination: str) -> PayService:
    """Ask what a Lightning address or LNURL takes.

    Raises:
        LnurlError: it cannot be asked, or does not answer as LUD-06 says.
    """
    url = url_of(destination)
    try:
        told = _PayRequest.model_validate(await _get(http, url))
    except ValidationError as invalid:
        field = ".".join(map(str, invalid.errors()[0]["loc"]))
        raise LnurlError(
            f"{_host(url)} does not answer as LNURL-pay says: {field} is missing or wrong"
        ) from None
    if told.minSendable > told.maxSendable or not _is_metadata(told.metadata):
        raise LnurlError(f"{_host(url)} does not answer as LNURL-pay says: its limits or metadata are wrong")
    callback = _safe(told.callback)
    if is_loopback(urlsplit(callback).hostname or "") and not is_loopback(urlsplit(url).hostname or ""):
        raise LnurlError(f"{_host(url)} names an address on this machine: it is not asked")
    return PayService(callback, told.minSendable, told.maxSendable, told.metadata)


async def ask_invoice(http: httpx.AsyncClient, service: PayService, amount_msat: int) -> str:
    """Ask a service for an invoice, and return it once it is found to be what was asked for.

    Raises:
        LnurlError: the amount is none that it takes, or the invoice is of another one or commits to
            something else than the metadata.
    """
    if not service.least_msat <= amount_msat <= service.most_msat:
        raise LnurlError(
            f"the receiver takes {service.least_msat} to {service.most_msat} msat at once, not {amount_msat}"
        )
    joint = "&" if urlsplit(service.callback).query else "?"
    url = f"{service.callback}{joint}{urlencode({'amount': amount_msat})}"
    host = _host(url)
    try:
        invoice = normalize_invoice(_Invoice.model_validate(await _get(http, url)).pr)
        asks_msat, commits_to = invoice_amount_msat(invoice), invoice_description_hash(invoice)
    except (ValidationError, InvoiceError):
        raise LnurlError(f"{host} gave no invoice that can be read") from None
    if asks_msat != amount_msat:
        raise LnurlError(f"{host} gave an invoice of another amount than was asked for: it is not paid")
    if commits_to != sha256(service.metadata.encode()).digest():
        raise LnurlError(f"{host} gave an invoice for something else than it described: it is not paid")
    return invoice


def is_loopback(host: str) -> bool:
    """Tell whether a host is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _safe(url: str) -> str:
    try:
        parts = urlsplit(url)
        host, _port = parts.hostname or "", parts.port
    except ValueError:
        raise LnurlError("the LNURL leads to no URL") from None
    secure = parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host))
    if not secure or not host or parts.username is not None or len(url) > MAX_URL_CHARACTERS:
        raise LnurlError("an LNURL leads to an https:// address without a user: this one is not asked")
    return url.partition("#")[0]


async def _get(http: httpx.AsyncClient, url: str) -> Any:
    host = _host(url)
    data = bytearray()
    try:
        with anyio.fail_after(ANSWER_WITHIN_S):
            headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
            async with http.stream("GET", url, headers=headers, follow_redirects=False) as reply:
                if reply.is_redirect:
                    raise LnurlError(f"{host} answers with a redirect, which is not followed")
                async for part in reply.aiter_raw():
                    data += part
                    if len(data) > MAX_ANSWER_BYTES:
                        raise LnurlError(f"{host} answers with more than {MAX_ANSWER_BYTES} bytes")
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
        raise LnurlError(f"{host} cannot be asked ({type(error).__name__}): nothing was paid") from None
    try:
        told = json.loads(data)
    except (ValueError, RecursionError):
        told = None
    if not isinstance(told, dict):
        raise LnurlError(f"{host} does not answer with a JSON object (status {reply.status_code})")
    if str(told.get("status", "")).upper() == "ERROR" or reply.status_code != 200:
        raise LnurlError(f"{host} refuses: {_plain(told.get('reason'))} (status {reply.status_code})")
    return told


def _is_metadata(text: str) -> bool:
    """Whether the metadata is a JSON array of arrays with exactly one plain text, as LUD-06 asks."""
    try:
        entries = json.loads(text)
    except (ValueError, RecursionError):
        return False
    if not isinstance(entries, list) or not all(
        isinstance(each, list) and len(each) >= 2 for each in entries
    ):
        return False
    return [isinstance(each[1], str) for each in entries if each[0] == "text/plain"] == [True]


def _host(url: str) -> str:
    return urlsplit(url).netloc


def _plain(reason: object) -> str:
    """A stranger's sentence, short and without anything that a terminal would act on."""
    text = reason if isinstance(reason, str) else "it gives no reason"
    return "".join(c if c.isprintable() else " " for c in text)[:200]
