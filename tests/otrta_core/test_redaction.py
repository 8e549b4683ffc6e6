"""What may not be shown is taken out, and what is needed to find a fault stays."""

import pytest

from otrta_core import PaymentRequest, Proof, Token, Unit
from otrta_core.redaction import redact, redact_spendable

SECRET = "9a6dbb847bd232ba76db0df197216b29d3b8cc14553cd27827fc1cc942fedb4e"
TOKEN = Token("https://m", "sat", (Proof(1, "009a1f293253e41e", SECRET, "02" + "ab" * 32),))
REQUEST = PaymentRequest(amount=1, unit=Unit.SAT, mints=("https://m",))
SEED = "legal winner thank year wave sausage worth useful legal winner thank yellow"

TEXTS = {
    "V4": TOKEN.encode(4),
    "V3": TOKEN.encode(3),
    "creqA": REQUEST.encode("creqA"),
    "creqB": REQUEST.encode("creqB"),
}
OTHERS = {
    "secret": SECRET,
    "point": "02" + "ab" * 32,
    "seed": SEED,
    "long seed": f"{SEED} {SEED}",
    "bearer": "Authorization: Bearer local-token",
    "master key": "sk-otrta-demo",
    "password": "postgresql://user:pass@",
    "long": "k" * 90,
}


@pytest.mark.parametrize("text", [*TEXTS.values(), *OTHERS.values()], ids=[*TEXTS, *OTHERS])
def test_what_may_not_be_shown_is_removed(text: str) -> None:
    said = redact(f"The gateway said: {text}.")
    assert text not in said
    assert "[removed]" in said
    assert said.startswith("The gateway said")
    assert redact(said) == said


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_tokens_are_removed_from_texts_of_others_too(text: str) -> None:
    assert redact_spendable(f'header=("x-cashu", "{text}")') == 'header=("x-cashu", "[removed]")'


@pytest.mark.parametrize(
    "text",
    [
        "call_not_settled call=0123456789abcdef0123456789abcdef",
        "http://127.0.0.1:8402/v1",
        "postgresql://127.0.0.1:5432/otrta",
        "110 msat",
        "the mint cannot be reached right now",
        "cashu is fine",
    ],
)
def test_what_is_needed_to_find_a_fault_stays(text: str) -> None:
    assert redact(text) == redact_spendable(text) == text


def test_secrets_that_no_pattern_knows_are_named() -> None:
    assert redact("key=hunter2!", ["hunter2!"]) == "key=[removed]"
    assert redact_spendable("key=hunter2!", ["hunter2!"]) == "key=[removed]"
    assert redact("a b c", ["a", ""]) == "a b c"
