"""What to do with an operation whose outcome is not known: a table, and nothing else.

The evidence is the mint's own state, asked for in this order: the states of the inputs (or of the quote)
first, the signatures on our outputs second. A swap that lands between the two questions is then seen
as signed, never as spent by somebody else.

=================  =========================  ==========  ==================
our outputs        inputs / quote             last post   verdict
=================  =========================  ==========  ==================
all signed         any                        any         FINISH
some signed        any                        any         WAIT
none signed        any input PENDING          any         WAIT
  … and foreign    any input PENDING          refused     FAIL_PENDING
none signed        any input SPENT            any         FAIL_SPENT
none signed        all UNSPENT, quote PAID    refused     FAIL_REFUSED
none signed        all UNSPENT, quote PAID    unknown     POST_AGAIN
none signed        quote PENDING              any         WAIT
none signed        quote UNPAID               any         FAIL_REFUSED
none signed        quote ISSUED               any         FAIL_SPENT
=================  =========================  ==========  ==================
"""

from collections.abc import Iterable
from enum import Enum, auto

from otrta_wallet.mint_client import ProofState, QuoteState


class Verdict(Enum):
    """What to do next."""

    FINISH = auto()
    POST_AGAIN = auto()
    WAIT = auto()
    FAIL_REFUSED = auto()
    FAIL_SPENT = auto()
    FAIL_PENDING = auto()


def decide(
    *,
    signed: int,
    outputs: int,
    refused: bool,
    foreign: bool = False,
    input_states: Iterable[ProofState] = (),
    quote_state: QuoteState | None = None,
) -> Verdict:
    """Decide by the mint's state.

    Args:
        signed: how many of our outputs the mint has signed.
        outputs: how many there are.
        refused: whether the mint itself answered the last post with a refusal.
        foreign: whether somebody else knows the inputs too and no post of ours is without an answer, so
            that a pending spend must be theirs.
        input_states: of the inputs, for anything but minting.
        quote_state: of the quote, for minting.
    """
    if signed:
        return Verdict.FINISH if signed == outputs else Verdict.WAIT
    states = set(input_states)
    if "PENDING" in states or quote_state == "PENDING":
        return Verdict.FAIL_PENDING if refused and foreign else Verdict.WAIT
    if "SPENT" in states or quote_state == "ISSUED":
        return Verdict.FAIL_SPENT
    if refused or quote_state == "UNPAID":
        return Verdict.FAIL_REFUSED
    return Verdict.POST_AGAIN
