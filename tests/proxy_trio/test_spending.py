"""The choke point: whatever happens in whatever order, no budget is ever overrun."""

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule
from sqlalchemy import create_engine

from otrta_wallet.schema import settings as settings_table
from proxy_trio import app_keys, approvals, calls, spending
from proxy_trio.approvals import ApprovalNeeded, Ask
from proxy_trio.budget import UNLIMITED, Limits, Window, begins
from proxy_trio.client_settings import ClientSettings
from proxy_trio.errors import (
    ApprovalDenied,
    ApprovalNotKnown,
    BudgetExceeded,
    KeyRefused,
    ModelNotAllowed,
    SpendingPaused,
)
from proxy_trio.schema import ApprovalState, CallState, metadata
from proxy_trio.spending import Spending

START = 1_800_000_000.0
OPEN = (CallState.IN_FLIGHT, CallState.AWAITING_CHANGE)


@pytest.fixture
def conn():
    engine = create_engine("sqlite://")
    with engine.connect() as connection:
        settings_table.create(connection)
        metadata.create_all(connection)
        yield connection
    engine.dispose()


def under(**budgets):
    return Spending(ClientSettings.model_validate({"budgets": budgets}))


def ask(msat, key_id=None, model="m"):
    return Ask(key_id, model, "https://g", msat)


def pay(conn, gate, now, msat, key_id=None, model="m"):
    """What the cashier does in the transaction that takes the proofs."""
    allowance = gate.allow(conn, now, ask(msat, key_id, model))
    call_id = calls.new_id()
    calls.begin(
        conn,
        now,
        id=call_id,
        key_id=key_id,
        gateway="https://g",
        model=model,
        stream=False,
        mint="https://mint",
        unit="msat",
        transfer_id=call_id,
        paid_msat=msat,
        fee_msat=0,
        bound_msat=msat,
    )
    if allowance.approval is not None:
        approvals.use(conn, allowance.approval.id, call_id)
    return call_id


def new_key(conn, name="a", *, now=START, models=None, expires_at=None, **limits):
    known = {field: None for field in Limits.__slots__}  # noqa: C420  # a dict of its own
    return app_keys.add(
        conn, now, name=name, limits=Limits(**known | limits), models=models, expires_at=expires_at
    )[0]


def end(conn, now, call_id, state, change):
    assert calls.change(
        conn, now, call_id, was=(*OPEN, CallState.DISPUTED, CallState.DONE), state=state, change_msat=change
    )


def test_what_is_on_its_way_counts_whole_and_what_came_back_does_not(conn):
    gate = under(per_day_sat=1)
    first = pay(conn, gate, START, 600)
    with pytest.raises(BudgetExceeded):
        gate.allow(conn, START, ask(401))
    end(conn, START, first, CallState.AWAITING_CHANGE, 500)  # told, and not yet kept
    with pytest.raises(BudgetExceeded):
        gate.allow(conn, START, ask(401))
    end(conn, START, first, CallState.DONE, 500)
    assert gate.allow(conn, START, ask(900)).at_most_msat == 900
    end(conn, START, first, CallState.DISPUTED, 100)
    with pytest.raises(BudgetExceeded) as refused:
        gate.allow(conn, START, ask(900))
    assert refused.value.left_msat == 500
    end(conn, START, first, CallState.REFUNDED, 600)
    assert gate.allow(conn, START, ask(1000)).at_most_msat == 1000


@pytest.mark.parametrize("window", [Window.HOUR, Window.DAY, Window.MONTH])
def test_a_window_renews_and_a_clock_that_is_set_back_renews_nothing(conn, window):
    gate = under(**{"per_day_sat": "unlimited", f"per_{window.value}_sat": 1})
    now = begins(window, START + 40 * 86_400)
    pay(conn, gate, now, 1000)
    for back in (0.1, 3_601, 86_401, 31 * 86_400, now):
        with pytest.raises(BudgetExceeded):
            gate.allow(conn, now - back, ask(1))
    with pytest.raises(BudgetExceeded) as refused:
        gate.allow(conn, now, ask(1))
    assert gate.allow(conn, refused.value.renews_at, ask(1000)).at_most_msat == 1000


def test_nothing_leaves_while_spending_is_paused(conn):
    gate = under()
    assert spending.pause(conn, START) == START == spending.pause(conn, START + 5)
    with pytest.raises(SpendingPaused, match="otrta config resume"):
        gate.allow(conn, START, ask(1))
    spending.resume(conn, START)
    gate.allow(conn, START, ask(1))


def test_a_pause_that_cannot_be_read_lets_nothing_leave(conn):
    conn.execute(settings_table.insert().values(name="spending_paused", value="?"))
    with pytest.raises(ValueError, match="float"):
        under().allow(conn, START, ask(1))


def test_a_sum_that_is_too_large_to_be_reckoned_lets_nothing_leave(conn):
    gate = Spending(ClientSettings())
    for _ in range(2):
        pay(conn, under(per_request_sat="unlimited", per_day_sat="unlimited"), START, 2**63 - 1)
    with pytest.raises(Exception, match="overflow"):
        gate.allow(conn, START, ask(1))


def test_a_keys_budget_counts_its_own_calls_and_all_calls_count_for_all(conn):
    gate = under(per_day_sat=1)
    key, other = new_key(conn, per_day_msat=300), new_key(conn, "b", total_msat=10_000)
    pay(conn, gate, START, 300, key.id)
    with pytest.raises(BudgetExceeded) as refused:
        gate.allow(conn, START, ask(1, key.id))
    assert refused.value.key == "a"
    pay(conn, gate, START, 600, other.id)
    pay(conn, gate, START, 100)
    with pytest.raises(BudgetExceeded) as refused:
        gate.allow(conn, START, ask(1, other.id))
    assert refused.value.key is None


def test_a_total_never_renews(conn):
    gate = under()
    key = new_key(conn, total_msat=300)
    pay(conn, gate, START, 300, key.id)
    with pytest.raises(BudgetExceeded):
        gate.allow(conn, START + 3_650 * 86_400, ask(1, key.id))


def test_a_key_that_does_not_hold_any_more_is_refused_where_the_money_leaves(conn):
    gate = under()
    gone, late = new_key(conn), new_key(conn, "b", expires_at=START + 1)
    app_keys.remove(conn, START, "a")
    gate.allow(conn, START, ask(1, late.id))
    for key_id, now in ((gone.id, START), (late.id, START + 1), ("unknown", START)):
        with pytest.raises(KeyRefused):
            gate.allow(conn, now, ask(1, key_id))


@pytest.mark.parametrize(
    ("models", "of_key", "model", "allowed"),
    [
        ("any", None, "gpt-5", True),
        (["gpt-*"], None, "gpt-5", True),
        (["gpt-*"], None, "Gpt-5", False),
        (["gpt-*"], None, "my-gpt-5", False),
        (["*/*-mini", "a"], None, "openai/gpt-5-mini", True),
        (["*/*-mini", "a"], None, "a/-min", False),
        ([], None, "gpt-5", False),
        ("any", ["gpt-5"], "gpt-5", True),
        ("any", [], "gpt-5", False),
        (["gpt-5"], ["o3"], "o3", False),
        (["*"], ["*"], "x" * 201, False),
    ],
)
def test_a_model_must_be_on_every_list_that_there_is(conn, models, of_key, model, allowed):
    gate = under(models=models)
    key = new_key(conn, models=of_key)
    if allowed:
        gate.allow(conn, START, ask(1, key.id, model))
    else:
        with pytest.raises(ModelNotAllowed):
            gate.allow(conn, START, ask(1, key.id, model))


def asked(conn, msat, now=START, key_id=None, model="m", held=frozenset()):
    return approvals.ask_for(conn, now, ask(msat, key_id, model), held)


def test_an_approval_lets_one_call_pass_of_the_same_key_and_model_and_no_larger_one(conn):
    gate = under(approve_above_sat=1)
    key = new_key(conn)
    assert gate.allow(conn, START, ask(1000)).at_most_msat == 1000
    with pytest.raises(ApprovalNeeded):
        gate.allow(conn, START, ask(1001))
    approvals.decide(conn, START, asked(conn, 2000).id, ApprovalState.APPROVED)
    for other in (ask(2001), ask(1500, key.id), ask(1500, model="n")):
        with pytest.raises(ApprovalNeeded):
            gate.allow(conn, START, other)
    first = pay(conn, gate, START, 1500)
    with pytest.raises(ApprovalNeeded):
        gate.allow(conn, START, ask(1500))
    end(conn, START, first, CallState.REFUNDED, 1500)
    assert pay(conn, gate, START, 2000)


def test_an_approval_holds_for_its_minutes_whatever_the_clock_does(conn):
    gate = under(approve_above_sat=1, approval_minutes=10)
    approvals.decide(conn, START, asked(conn, 2000).id, ApprovalState.APPROVED)
    gate.allow(conn, START + 600, ask(2000))
    for now in (START + 601, START - 601, START - 86_400):
        with pytest.raises(ApprovalNeeded):
            gate.allow(conn, now, ask(2000))


def test_an_approval_is_no_way_around_a_budget(conn):
    gate = under(approve_above_sat=1, per_day_sat=2)
    approvals.decide(conn, START, asked(conn, 3000).id, ApprovalState.APPROVED)
    with pytest.raises(BudgetExceeded):
        gate.allow(conn, START, ask(3000))


def test_a_denial_refuses_the_same_for_some_minutes_and_smaller_ones_are_asked_for(conn):
    gate = under(approve_above_sat=1)
    approvals.decide(conn, START, asked(conn, 2000).id, ApprovalState.DENIED)
    for msat in (2000, 5000):
        with pytest.raises(ApprovalDenied):
            gate.allow(conn, START + 60, ask(msat))
    with pytest.raises(ApprovalNeeded):
        gate.allow(conn, START + 60, ask(1999))
    with pytest.raises(ApprovalNeeded):
        gate.allow(conn, START + 601, ask(2000))


def test_what_is_asked_again_waits_once_and_no_more_than_fifty_wait(conn):
    first = asked(conn, 2000)
    assert asked(conn, 2000) == first
    second = asked(conn, 2000, held=frozenset({first.id}))
    assert second.id != first.id
    for each in range(approvals.MAX_WAITING - 2):
        assert asked(conn, 3000 + each) is not None
    assert asked(conn, 9999) is None
    assert len(approvals.waiting(conn)) == approvals.MAX_WAITING
    assert asked(conn, 9999, now=START + approvals.FORGET_S + 1, held=frozenset({second.id})) is not None
    assert [each.amount_msat for each in approvals.waiting(conn)] == [2000, 9999]


def test_nobody_decides_twice(conn):
    made = asked(conn, 2000)
    approvals.decide(conn, START, made.id, ApprovalState.DENIED)
    with pytest.raises(ApprovalNotKnown):
        approvals.decide(conn, START, made.id, ApprovalState.APPROVED)


class Anything(RuleBasedStateMachine):
    """Calls, endings, clocks, settings and the user's word, in any order, beside a list of what was paid."""

    paid = Bundle("paid")
    sums = st.none() | st.integers(0, 4)

    @initialize()
    def begin(self):
        self.engine = create_engine("sqlite://")
        self.conn = self.engine.connect()
        settings_table.create(self.conn)
        metadata.create_all(self.conn)
        self.now = START
        self.gate = under()
        self.keys = {}
        self.calls = {}
        self.paused = False

    def teardown(self):
        if hasattr(self, "conn"):
            self.conn.close()
            self.engine.dispose()

    @rule(hour=sums, day=sums, month=sums, request=sums, above=sums)
    def set_budgets(self, hour, day, month, request, above):
        told = {"per_hour": hour, "per_day": day, "per_month": month, "per_request": request}
        told["approve_above"] = above
        self.gate = under(**{f"{k}_sat": "unlimited" if v is None else v for k, v in told.items()})

    @rule(name=st.sampled_from("ab"), day=sums, total=sums)
    def set_key(self, name, day, total):
        limits = {"per_day_msat": day and day * 1000, "total_msat": total and total * 1000}
        if name not in self.keys:
            self.keys[name] = new_key(self.conn, name, now=self.now, **limits)
        full = {field: None for field in Limits.__slots__} | limits  # noqa: C420
        self.keys[name] = app_keys.change(
            self.conn, name, limits=Limits(**full), models=None, expires_at=None
        )

    @rule(paused=st.booleans())
    def pause(self, paused):
        (spending.pause if paused else spending.resume)(self.conn, self.now)
        self.paused = paused

    @rule(by=st.sampled_from([1.0, 1800.0, 3600.0, 86_400.0, 40 * 86_400.0, -1.0, -7200.0, -90_000.0]))
    def move_the_clock(self, by):
        self.now += by

    @rule(target=paid, msat=st.integers(0, 5000), name=st.sampled_from([None, "a", "b"]))
    def call(self, msat, name):
        key = self.keys.get(name)
        key_id = key.id if key else None
        try:
            call_id = pay(self.conn, self.gate, self.now, msat, key_id)
        except (BudgetExceeded, SpendingPaused, ApprovalDenied):
            return None
        except ApprovalNeeded:
            assert msat > self.gate.settings.budgets.approve_above_sat * 1000
            assert asked(self.conn, msat, self.now, key_id) is not None
            return None
        assert not self.paused
        self.calls[call_id] = [self.now, key_id, msat, 0]
        self.no_budget_is_overrun(self.gate.settings.limits, None)
        self.no_budget_is_overrun(key.limits if key else UNLIMITED, key_id)
        return call_id

    @rule(approve=st.booleans())
    def decide(self, approve):
        for waits in approvals.waiting(self.conn):
            state = ApprovalState.APPROVED if approve else ApprovalState.DENIED
            approvals.decide(self.conn, self.now, waits.id, state)

    @rule(call_id=paid, share=st.integers(0, 4), state=st.sampled_from(list(CallState)))
    def end_call(self, call_id, share, state):
        if call_id is None:
            return
        change = self.calls[call_id][2] * share // 4
        known = calls.load(self.conn, call_id).state
        calls.change(self.conn, self.now, call_id, was=tuple(CallState), state=state, change_msat=change)
        assert known in CallState
        self.calls[call_id][3] = 0 if state in OPEN else change

    def no_budget_is_overrun(self, limits, key_id):
        """Reckon anew, by hand, what has left in every window that a payment was just made in."""
        mine = [each for each in self.calls.values() if key_id is None or each[1] == key_id]
        assert limits.per_request_msat is None or mine[-1][2] <= limits.per_request_msat
        for window in limits.windows:
            since = begins(window, self.now)
            left = sum(paid_ - back for at, _, paid_, back in mine if at >= since)
            assert left <= limits.of(window)

    @invariant()
    def what_waits_is_bounded(self):
        if hasattr(self, "conn"):
            assert len(approvals.waiting(self.conn)) <= approvals.MAX_WAITING


TestAnything = Anything.TestCase
