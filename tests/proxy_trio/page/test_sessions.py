"""Who gets in, with what, and for how long."""

import itertools

import pytest

from proxy_trio.page.sessions import CODE_S, IDLE_S, LONGEST_S, Kept, Sessions

TOKEN = "the-local-token"


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sessions(clock: Clock) -> Sessions:
    numbers = itertools.count()
    return Sessions(TOKEN, now=clock, make=lambda: f"word-{next(numbers)}")


@pytest.mark.parametrize("token", ["", "the-local-toke", "the-local-tokenn", "é", "\ud800"])
def test_only_the_local_token_logs_in(sessions: Sessions, token: str) -> None:
    assert sessions.log_in(token) is None
    assert sessions.log_in(TOKEN) is not None


def test_a_session_takes_its_path_and_its_cookie(sessions: Sessions) -> None:
    one, other = sessions.log_in(TOKEN), sessions.log_in(TOKEN)
    assert one is not None
    assert other is not None
    assert sessions.find(one.key, one.cookie) is one
    assert sessions.find(one.key, other.cookie) is None
    assert sessions.find(other.key, one.cookie) is None
    assert sessions.find(one.key, None) is None
    assert sessions.find(one.cookie, one.cookie) is None


def test_a_code_works_once_and_for_a_while(sessions: Sessions, clock: Clock) -> None:
    code, late = sessions.new_code(), sessions.new_code()
    assert sessions.redeem("another") is None
    clock.now += CODE_S
    assert sessions.redeem(code) is not None
    assert sessions.redeem(code) is None
    clock.now += 1
    assert sessions.redeem(late) is None


def test_of_many_codes_the_oldest_end(sessions: Sessions) -> None:
    codes = [sessions.new_code() for _ in range(17)]
    assert sessions.redeem(codes[0]) is None
    assert sessions.redeem(codes[1]) is not None


def test_a_session_that_is_not_used_ends(sessions: Sessions, clock: Clock) -> None:
    session = sessions.log_in(TOKEN)
    assert session is not None
    clock.now += IDLE_S
    assert sessions.find(session.key, session.cookie) is session
    clock.now += IDLE_S + 1
    assert sessions.find(session.key, session.cookie) is None


def test_a_session_that_is_used_all_the_time_ends_too(sessions: Sessions, clock: Clock) -> None:
    session = sessions.log_in(TOKEN)
    assert session is not None
    began = clock.now
    while clock.now + IDLE_S / 2 <= began + LONGEST_S:
        clock.now += IDLE_S / 2
        assert sessions.find(session.key, session.cookie) is session
    clock.now += IDLE_S / 2
    assert sessions.find(session.key, session.cookie) is None


def test_who_logs_out_is_out(sessions: Sessions) -> None:
    session = sessions.log_in(TOKEN)
    assert session is not None
    sessions.end(session)
    assert sessions.find(session.key, session.cookie) is None


def test_of_many_sessions_the_oldest_ends(sessions: Sessions) -> None:
    begun = [sessions.log_in(TOKEN) for _ in range(17)]
    assert [sessions.find(s.key, s.cookie) is not None for s in begun if s] == [False] + [True] * 16


def test_a_session_shows_no_secret(sessions: Sessions) -> None:
    session = sessions.log_in(TOKEN)
    assert session is not None
    session.to_show.put("id", "cashuBsecret")
    assert not any(secret in repr(session) for secret in (session.cookie, session.csrf, "cashuBsecret"))


def test_only_a_few_texts_are_kept() -> None:
    kept = Kept()
    for number in range(100):
        kept.put(str(number), "text")
    assert (len(kept), "99" in kept, "0" in kept) == (64, True, False)
