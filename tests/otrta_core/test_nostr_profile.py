import pytest
from hypothesis import given
from hypothesis import strategies as st

from otrta_core import bech32, tlv
from otrta_core.bech32 import Checksum
from otrta_core.nostr_profile import NostrProfile

KEY = bytes.fromhex("3bf0c63fcb93463407af97a5e5ee64fa883d107ef9e558472c4eb9aaaefa459d")
RELAYS = ("wss://r.x.com", "wss://djbas.sadkb.com")
# the examples of NIP-19
NPUB = "npub180cvv07tjdrrgpa0j7j7tmnyl2yr6yr7l8j4s3evf6u64th6gkwsyjh6w6"
NPROFILE = (
    "nprofile1qqsrhuxx8l9ex335q7he0f09aej04zpazpl0ne2cgukyawd24mayt8gpp4mhxue69uhhytnc9e3k7mgp"
    "z4mhxue69uhkg6nzv9ejuumpv34kytnrdaksjlyr9p"
)


def nprofile(*fields: tlv.Field) -> str:
    return bech32.encode("nprofile", tlv.write(fields, length_bytes=1), Checksum.BECH32)


def test_the_published_examples_are_read_and_written() -> None:
    assert NostrProfile.parse(NPUB) == NostrProfile(KEY)
    assert NostrProfile.parse(NPROFILE) == NostrProfile(KEY, RELAYS)
    assert NostrProfile(KEY, RELAYS).encode() == NPROFILE


@given(st.binary(min_size=32, max_size=32), st.lists(st.text(max_size=60), max_size=5).map(tuple))
def test_what_is_written_reads_back(key: bytes, relays: tuple[str, ...]) -> None:
    profile = NostrProfile(key, relays)
    assert NostrProfile.parse(profile.encode()) == profile


def test_fields_of_other_types_are_passed_over() -> None:
    assert NostrProfile.parse(nprofile((3, b"\0\0\0\1"), (0, KEY), (77, b""))) == NostrProfile(KEY)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "npub1",
        NPUB[:-1] + "q",
        NPUB.replace("npub", "nsec"),
        bech32.encode("nsec", KEY, Checksum.BECH32),
        bech32.encode("npub", KEY, Checksum.BECH32M),
        bech32.encode("npub", KEY[1:], Checksum.BECH32),
        bech32.encode("nevent", bytes([0, 32]) + KEY, Checksum.BECH32),
        nprofile(),
        nprofile((1, b"wss://r.x.com")),
        nprofile((0, KEY), (0, KEY)),
        nprofile((0, KEY[1:])),
        nprofile((0, KEY), (1, b"\xff")),
        nprofile((0, KEY), *[(1, b"r")] * 64),
        bech32.encode("nprofile", b"\0\x20" + KEY[1:], Checksum.BECH32),
    ],
)
def test_what_is_no_public_key_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        NostrProfile.parse(text)


def test_a_relay_that_does_not_fit_is_not_written() -> None:
    with pytest.raises(ValueError, match="255"):
        NostrProfile(KEY, ("x" * 256,)).encode()
