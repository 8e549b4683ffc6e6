"""Compressed answers come out whole, in pieces of bounded size, or not at all."""

import gzip
import zlib

import pytest

from proxy_trio.decoding import MAX_PIECE_BYTES, Decoder, DecodingFailed


def decode(coding, *parts):
    decoder = Decoder(coding)
    pieces = [piece for part in parts for piece in decoder.feed(part)]
    decoder.finish()
    return pieces


@pytest.mark.parametrize("coding", ["", "identity", " Identity "])
def test_without_a_coding_the_bytes_are_untouched(coding):
    assert decode(coding, b"a", b"b") == [b"a", b"b"]
    assert not Decoder(coding).decodes


def test_a_bomb_comes_out_in_bounded_pieces():
    pieces = decode("gzip", gzip.compress(bytes(5_000_000)))
    assert sum(map(len, pieces)) == 5_000_000
    assert max(map(len, pieces)) <= MAX_PIECE_BYTES


def test_several_gzip_members_are_one_body():
    packed = gzip.compress(b"one ", mtime=0) + gzip.compress(b"two")
    assert b"".join(decode("x-gzip", *(bytes([byte]) for byte in packed))) == b"one two"


def test_what_was_flushed_comes_out_at_once():
    packer = zlib.compressobj()
    first = packer.compress(b"data: a\n\n") + packer.flush(zlib.Z_SYNC_FLUSH)
    assert b"".join(Decoder("deflate").feed(first)) == b"data: a\n\n"


def test_an_empty_body_needs_no_compression():
    assert decode("gzip") == []


CUT = gzip.compress(b"cut", mtime=0)[:-3]


@pytest.mark.parametrize(("coding", "body"), [("gzip", CUT), ("deflate", b"no zlib")])
def test_a_cut_or_damaged_body_is_an_error(coding, body):
    with pytest.raises(DecodingFailed):
        decode(coding, body)


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip, gzip"])
def test_an_unknown_coding_is_an_error(coding):
    with pytest.raises(DecodingFailed):
        Decoder(coding)
