"""What to do with an operation whose outcome is not known: a table, and nothing else.

The evidence is the mint's own state, asked for in this order: the states of the inputs (or of the quote)
first, the signatures on our outputs second. A swap that lands between the two questions is then seen
as signed, never as spent by somebody else. Where signatures are there and the inputs seemed unspent,
the states are asked once more, so that "signed, but unspent" can only mean that the outputs were
signed in an earlier life of this wallet, as after its database was put back from a copy.

=================  =========================  ==========  ==================
our outputs        inputs / quote             last post   verdict
=================  =========================  ==========  ==================
all or some        any UNSPENT, quote UNPAID  any         NEW_OUTPUTS
signed             or PAID
all signed         otherwise                  any         FINISH
some signed        otherwise                  any         WAIT
none signed        any PENDING                any         WAIT
  … and foreign    any PENDING                refused     FAIL_PENDING
none signed        any SPENT, quote ISSUED    any         FAIL_SPENT
none signed        quote UNPAID               any         FAIL_REFUSED
none signed        all UNSPENT, quote PAID    unknown     POST_AGAIN
none signed        all UNSPENT, quote PAID    refused     FAIL_REFUSED
  … and may land   all UNSPENT, quote PAID    refused     WAIT
=================  =========================  ==========  ==================

Paying an invoice is decided by the mint's quote first, since its change may be nothing. It is never posted
again for an answer that was lost, only where the mint was too busy for it: whoever wants it paid after all
says so. "Gone" is a quote that the mint does not know any more; the first row that applies counts.

=================  =================  =========  ===============  ==================
quote              inputs             change     posts            verdict
=================  =================  =========  ===============  ==================
PAID               all SPENT          any        any              FINISH
gone               all SPENT          signed     any              FINISH
any                any PENDING        any        any              WAIT
PENDING            any                any        any              WAIT
gone               any SPENT          any        any              WAIT
UNPAID             all UNSPENT        none       mint was busy    POST_AGAIN
any                any                any        one may land     WAIT
UNPAID or PAID     any SPENT          any        none may land    FAIL_SPENT
PAID               all UNSPENT        any        none may land    FAIL_PAID
UNPAID or gone     all UNSPENT        signed     refused          NEW_OUTPUTS
UNPAID or gone     all UNSPENT        otherwise  none may land    FAIL_REFUSED
=================  =================  =========  ===============  ==================
"""

from collections.abc import Collection
from enum import Enum, auto

from otrta_wallet.mint_client import PaymentState, ProofState, QuoteState


class Verdict(Enum):
    """What to do next."""

    FINISH = auto()
    POST_AGAIN = auto()
    NEW_OUTPUTS = auto()
    WAIT = auto()
    FAIL_REFUSED = auto()
    FAIL_SPENT = auto()
    FAIL_PENDING = auto()
    FAIL_PAID = auto()


def given_up(input_states: Collection[ProofState], quote_state: QuoteState | None) -> bool:
    """Tell whether the mint holds no input (or quote) any more as one that can still be used."""
    return "UNSPENT" not in input_states and quote_state not in ("UNPAID", "PAID")


def decide(
    *,
    signed: int,
    outputs: int,
    refused: bool,
    foreign: bool = False,
    may_land: bool = False,
    input_states: Collection[ProofState] = (),
    quote_state: QuoteState | None = None,
) -> Verdict:
    """Decide by the mint's state.

    Args:
        signed: how many of our outputs the mint has signed.
        outputs: how many there are.
        refused: whether the mint itself answered the last post with a refusal, and a reason for it.
        foreign: whether somebody else knows the inputs too and no post of ours is without an answer, so
            that a pending spend must be theirs.
        may_land: whether an earlier post without an answer is so recent that the mint may still carry it
            out. The inputs must not be used otherwise before that is over.
        input_states: of the inputs, for anything but minting.
        quote_state: of the quote, for minting.
    """
    if signed:
        if not given_up(input_states, quote_state):
            return Verdict.NEW_OUTPUTS
        return Verdict.FINISH if signed == outputs else Verdict.WAIT
    if "PENDING" in input_states or quote_state == "PENDING":
        return Verdict.FAIL_PENDING if refused and foreign else Verdict.WAIT
    if "SPENT" in input_states or quote_state == "ISSUED":
        return Verdict.FAIL_SPENT
    if quote_state == "UNPAID":
        return Verdict.FAIL_REFUSED
    if not refused:
        return Verdict.POST_AGAIN
    return Verdict.WAIT if may_land else Verdict.FAIL_REFUSED


def decide_melt(
    *,
    quote_state: PaymentState | None,
    input_states: Collection[ProofState],
    signed: bool,
    refused: bool,
    busy: bool,
    may_land: bool,
) -> Verdict:
    """Decide by the mint's state what became of paying an invoice.

    Args:
        quote_state: of the quote; None where the mint does not know it any more.
        input_states: of the inputs.
        signed: whether the mint has signed any of our blanks.
        refused: whether the mint itself answered the last post with a refusal.
        busy: whether it answered the last post that it is asked too much.
        may_land: whether a post without an answer is so recent that the mint may still carry it out.
    """
    if set(input_states) == {"SPENT"} and (quote_state == "PAID" or (quote_state is None and signed)):
        return Verdict.FINISH  # change is signed by nobody who was not paid
    if "PENDING" in input_states or quote_state == "PENDING":
        return Verdict.WAIT
    if busy and quote_state == "UNPAID" and "SPENT" not in input_states and not signed:
        return Verdict.POST_AGAIN
    if may_land or (quote_state is None and "SPENT" in input_states):
        return Verdict.WAIT
    if "SPENT" in input_states:
        return Verdict.FAIL_SPENT
    if quote_state == "PAID":
        return Verdict.FAIL_PAID
    return Verdict.NEW_OUTPUTS if signed and refused else Verdict.FAIL_REFUSED
