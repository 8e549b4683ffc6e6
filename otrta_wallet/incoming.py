"""Tokens that somebody offers: what they are worth here, before they are touched."""

from collections.abc import Mapping
from dataclasses import dataclass

from anyio import to_thread

from otrta_core import Token, TokenError, Unit
from otrta_core.amounts import MAX_AMOUNT
from otrta_core.curve import require_dleq
from otrta_wallet.errors import TokenPending, TokenSpent, TokenUneconomic, UnitMismatch
from otrta_wallet.mint_book import MintBook
from otrta_wallet.mint_client import ProofState


@dataclass(frozen=True, slots=True)
class Incoming:
    """A token that this wallet could take, as far as can be said without its mint.

    Attributes:
        token: with full keyset ids and the mint's URL in normal form.
        fee: input fee of redeeming it, in its unit.
        net: what remains, above zero.
    """

    token: Token
    fee: int

    @property
    def net(self) -> int:
        """What is left after the fee."""
        return self.token.amount - self.fee


async def inspect(mints: MintBook, token: Token) -> Incoming:
    """See ``Wallet.inspect``."""
    full = await mints.resolve(token)
    keysets = mints.keysets(full.mint)
    if full.unit not in set(Unit):
        raise UnitMismatch("tokens of this unit are not counted here: send sat or msat")
    if Unit(full.unit).to_msat(full.amount) > MAX_AMOUNT:
        raise TokenError("the token's amount is out of range")
    if any("\0" in proof.secret + (proof.witness or "") for proof in full.proofs):
        raise TokenError("a proof of the token holds a zero character")  # PostgreSQL cannot store it
    if any(proof.amount not in keysets[proof.id].keys for proof in full.proofs):
        raise TokenError("a proof has an amount that its keyset does not sign")
    incoming = Incoming(full, full.fee(mints.fee_ppk(full.mint)))
    if incoming.net <= 0:
        raise TokenUneconomic("redeeming this token would cost all that it is worth in input fees")
    return incoming


async def check_dleq(mints: MintBook, incoming: Incoming) -> None:
    """See ``Wallet.check_dleq``."""
    keysets = mints.keysets(incoming.token.mint)
    with_dleq = [proof for proof in incoming.token.proofs if proof.dleq is not None]

    def check() -> None:
        for proof in with_dleq:
            require_dleq(proof.dleq_holds(keysets[proof.id].keys[proof.amount]))

    if with_dleq:
        await to_thread.run_sync(check)


def refuse_early(states: Mapping[str, ProofState]) -> None:
    """Refuse a token that its mint will not swap anyway, before anything is done for it.

    Raises:
        TokenSpent, TokenPending: a proof of it is.
    """
    if "SPENT" in states.values():
        raise TokenSpent("the token has been spent already")
    if "PENDING" in states.values():
        raise TokenPending("the token is being spent somewhere else right now: try again later")
