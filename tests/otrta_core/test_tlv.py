import pytest
from hypothesis import given
from hypothesis import strategies as st

from otrta_core import tlv

fields = st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=40)), max_size=10)
lengths = st.integers(1, 2)


@given(fields, lengths)
def test_what_is_written_reads_back(written: list[tlv.Field], length_bytes: int) -> None:
    data = tlv.write(written, length_bytes=length_bytes)
    assert tlv.read(data, length_bytes=length_bytes, max_fields=10) == written


@given(st.binary(max_size=60), lengths)
def test_arbitrary_bytes_are_fields_or_a_value_error(data: bytes, length_bytes: int) -> None:
    try:
        found = tlv.read(data, length_bytes=length_bytes, max_fields=20)
    except ValueError:
        return
    assert tlv.write(found, length_bytes=length_bytes) == data


@given(fields.filter(bool), lengths, st.data())
def test_a_sequence_cut_inside_a_field_is_refused(
    written: list[tlv.Field], length_bytes: int, data: st.DataObject
) -> None:
    whole = tlv.write(written, length_bytes=length_bytes)
    last = 1 + length_bytes + len(written[-1][1])
    cut = data.draw(st.integers(1, last - 1))
    with pytest.raises(ValueError, match="truncated"):
        tlv.read(whole[:-cut], length_bytes=length_bytes, max_fields=10)


def test_fields_are_counted() -> None:
    data = b"\x01\x00" * 5
    assert len(tlv.read(data, length_bytes=1, max_fields=5)) == 5
    with pytest.raises(ValueError, match="more than 4"):
        tlv.read(data, length_bytes=1, max_fields=4)


@pytest.mark.parametrize("length_bytes", [1, 2])
def test_a_value_longer_than_its_length_can_say_is_not_written(length_bytes: int) -> None:
    longest = bytes((1 << 8 * length_bytes) - 1)
    assert tlv.read(
        tlv.write([(1, longest)], length_bytes=length_bytes), length_bytes=length_bytes, max_fields=1
    ) == [(1, longest)]
    with pytest.raises(ValueError, match="more than"):
        tlv.write([(1, longest + b"x")], length_bytes=length_bytes)
