"""Lightning invoices (BOLT 11): what one asks for and commits to, read from what its checksum guards."""

import re
from typing import Final

from otrta_core.amounts import MAX_AMOUNT
from otrta_core.errors import InvoiceError

MAX_INVOICE_CHARACTERS: Final = 8192

_ALPHABET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_VALUES = {character: value for value, character in enumerate(_ALPHABET)}
_GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_TIMESTAMP, _SIGNATURE, _CHECKSUM = 7, 104, 6
_SHORTEST_DATA = _TIMESTAMP + _SIGNATURE + _CHECKSUM
"""Words of a timestamp, a signature and the checksum: no invoice has less."""
_DESCRIPTION_HASH, _HASH_WORDS = 23, 52
_PREFIX = re.compile(r"ln(?:bcrt|bc|tbs|tb|sb)(?:(?P<number>[1-9][0-9]{0,18})(?P<multiplier>[munp]?))?")
_MSAT_TENTHS = {"": 10**12, "m": 10**9, "u": 10**6, "n": 10**3, "p": 1}


def normalize_invoice(text: str) -> str:
    """Return an invoice in lower case, without a ``lightning:`` scheme, after checking its checksum.

    Raises:
        InvoiceError: not a BOLT 11 invoice, or one that was changed or cut on its way.
    """
    invoice = text.strip()
    if invoice[:10].lower() == "lightning:":
        invoice = invoice[10:]
    if len(invoice) > MAX_INVOICE_CHARACTERS or invoice not in (invoice.lower(), invoice.upper()):
        raise InvoiceError("this is no Lightning invoice: one begins with lnbc and is all of one case")
    invoice = invoice.lower()
    prefix, _, data = invoice.rpartition("1")
    if not prefix.startswith("ln") or len(data) < _SHORTEST_DATA or not set(data) <= _VALUES.keys():
        raise InvoiceError("this is no Lightning invoice: one begins with lnbc")
    if _checksum(prefix, data) != 1:
        raise InvoiceError("the invoice's checksum is wrong: copy it again, all of it")
    return invoice


def invoice_amount_msat(invoice: str) -> int | None:
    """Return what an invoice asks for in msat, or None where it leaves the amount to the payer.

    Args:
        invoice: in any form that ``normalize_invoice`` takes.

    Raises:
        InvoiceError: not an invoice, or its amount is no whole number of msat that fits 63 bits.
    """
    prefix = normalize_invoice(invoice).rpartition("1")[0]
    match = _PREFIX.fullmatch(prefix)
    if match is None:
        raise InvoiceError("the invoice's amount or network is not written as BOLT 11 says")
    if match["number"] is None:
        return None
    amount_msat, tenths = divmod(int(match["number"]) * _MSAT_TENTHS[match["multiplier"]], 10)
    if tenths or amount_msat > MAX_AMOUNT:
        raise InvoiceError("the invoice's amount is no whole number of msat that could be paid")
    return amount_msat


def invoice_description_hash(invoice: str) -> bytes | None:
    """Return the SHA-256 digest of the description that an invoice commits to, or None where it has none.

    It is the field ``h``; one of another length than 52 words is passed over, as BOLT 11 says.

    Args:
        invoice: in any form that ``normalize_invoice`` takes.

    Raises:
        InvoiceError: not an invoice, or its fields run over its end.
    """
    data = normalize_invoice(invoice).rpartition("1")[2]
    fields = [_VALUES[character] for character in data[_TIMESTAMP : -_SIGNATURE - _CHECKSUM]]
    at = 0
    while at < len(fields):
        if at + 3 > len(fields) or at + 3 + (length := 32 * fields[at + 1] + fields[at + 2]) > len(fields):
            raise InvoiceError("the invoice's fields run over its end")
        words = fields[at + 3 : at + 3 + length]
        if fields[at] == _DESCRIPTION_HASH and length == _HASH_WORDS:
            number = 0
            for word in words:
                number = number << 5 | word
            return (number >> 4).to_bytes(32, "big")
        at += 3 + length
    return None


def _checksum(prefix: str, data: str) -> int:
    """Return the BIP 173 checksum over a prefix and its data; 1 for a valid one."""
    codes = prefix.encode("ascii", "replace")
    words = [code >> 5 for code in codes] + [0] + [code & 31 for code in codes]
    checksum = 1
    for word in [*words, *(_VALUES[character] for character in data)]:
        top = checksum >> 25
        checksum = (checksum & 0x1FFFFFF) << 5 ^ word
        for bit, generator in enumerate(_GENERATOR):
            checksum ^= generator if top >> bit & 1 else 0
    return checksum
