"""What a person does with the wallet page, in a real browser: without scripts, by keyboard, on a phone."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page, expect

from otrta_cli.processes import Running, free_port, run_otrta, start_client
from tests.integration.browser import PHONE, House, house
from tests.integration.purse import Purse
from tests.integration.small_gateway import COST_MSAT, small_gateway
from tests.payee import invoice

pytestmark = pytest.mark.integration

HOSTILE = "<img src=x onerror=alert(1)>"
expect.set_options(timeout=15_000)

PLACES = ["", "activity", "pending", "topup", "receive", "send", "pay", "limits", "gateways", "connect"]


@pytest.fixture(scope="module")
def purse(mint: Running) -> Iterator[Purse]:
    with Purse(mint.url) as purse:
        yield purse


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory, mint: Running, purse: Purse) -> Iterator[House]:
    home = tmp_path_factory.mktemp("page")
    with small_gateway(purse, ("small", HOSTILE), name=HOSTILE) as gateway:
        proxy = start_client(home, free_port(), log=home / "log")
        try:
            run_otrta(home, "mints", "add", mint.url)
            run_otrta(home, "gateways", "add", gateway)
            run_otrta(home, "invoice", "500sat")
            with house(proxy, home, gateway) as found:
                yield found
        finally:
            proxy.stop()


@pytest.fixture
def page(here: House) -> Iterator[Page]:
    with here.window() as page:
        yield page
    complaints, here.complaints[:] = list(here.complaints), []
    assert complaints == []


def ask(here: House, model: str = "small", key: str = "none") -> httpx.Response:
    """Call as an app does."""
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
    headers = {"Authorization": f"Bearer {key}"}
    url = f"{here.proxy.url}/v1/chat/completions"
    return httpx.post(url, json=body, headers=headers, trust_env=False, timeout=60)


def call(here: House, model: str = "small") -> None:
    answer = ask(here, model)
    assert answer.status_code == 200, answer.text


def go(page: Page, place: str) -> None:
    page.goto(re.match(r"http://[^/]+/wallet/[\w-]+/", page.url)[0] + place)


def test_the_local_token_opens_the_page_and_is_asked_for_once(here: House) -> None:
    with here.window(logged_in=False) as page:
        page.goto(here.proxy.url)
        page.get_by_label("Local token").fill("wrong")
        page.get_by_role("button", name="Open").click()
        expect(page.get_by_role("alert")).to_contain_text("not the local token")
        page.get_by_label("Local token").fill((here.home / "local.token").read_text())
        page.get_by_role("button", name="Open").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Overview")
        page.goto(here.proxy.url)
        expect(page.get_by_role("heading", level=1)).to_have_text("Overview")
        page.get_by_role("button", name="Log out").click()
        expect(page.get_by_role("status")).to_have_text("You are logged out.")
        page.goto(here.proxy.url)
        expect(page.get_by_role("heading", level=1)).to_have_text("Open the wallet")
    # a refused login is an error to the browser, and nothing else here is
    assert [text for text in here.complaints if "401" not in text] == []
    here.complaints.clear()


def test_an_invoice_turns_paid_by_itself(here: House, page: Page) -> None:
    before = here.balance()["available_msat"]
    go(page, "topup")
    page.get_by_label("Amount in sat").fill("21")
    page.get_by_role("button", name="Make an invoice").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Pay this invoice")
    code = page.get_by_role("img", name="The invoice for 21.000 sat")
    expect(code).to_be_visible()
    expect(page.locator("#request")).to_contain_text("lnbc210n")
    expect(page.get_by_role("status")).to_have_text("Paid: 21.000 sat are in the wallet.")
    expect(code).to_be_hidden()
    page.get_by_role("link", name="To the wallet").click()
    expect(page.locator("#available")).to_contain_text(f"{(before + 21_000) / 1000:,.3f}")
    assert here.balance()["available_msat"] == before + 21_000


def test_a_top_up_takes_no_mouse(here: House, page: Page) -> None:
    go(page, "topup")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.get_by_label("Amount in sat")).to_be_focused()
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineWidth")
    assert outline == "3px"
    page.keyboard.type("2500msat")
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_have_text("Paid: 2.500 sat are in the wallet.")


def test_a_token_is_received_once(here: House, purse: Purse, page: Page) -> None:
    before = here.balance()["total_msat"]
    token = purse.token(5_250)
    go(page, "receive")
    page.get_by_label("Token").fill(token.encode())
    page.get_by_role("button", name="Receive", exact=True).click()
    expect(page.get_by_role("status")).to_have_text("Received 5.250 sat.")
    assert purse.states(token) == {"SPENT"}
    assert here.balance()["total_msat"] == before + 5_250
    go(page, "receive")
    page.get_by_label("Token").fill(token.encode())
    page.get_by_role("button", name="Receive", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("That was not done.")
    assert here.balance()["total_msat"] == before + 5_250
    here.complaints[:] = [text for text in here.complaints if "400" not in text]


def test_a_token_is_sent_shown_once_and_taken_back(here: House, purse: Purse, page: Page) -> None:
    before = here.balance()["available_msat"]
    go(page, "send")
    page.get_by_label("Amount in sat").fill("7")
    page.get_by_label("Note for the receiver").fill(HOSTILE)
    page.get_by_role("button", name="Make the token").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Your token")
    expect(page.get_by_role("img", name="The token")).to_be_visible()
    token = page.locator("#token").inner_text()
    assert token.startswith("cashuB")
    assert token not in page.url
    assert here.balance()["available_msat"] == before - 7_000
    page.reload()
    expect(page.locator("main")).to_contain_text("It was shown already.")
    assert token not in page.content()
    page.get_by_role("button", name="Show it again").click()
    expect(page.locator("#token")).to_have_text(token)
    page.get_by_role("button", name="Take it back").click()
    expect(page.get_by_role("status")).to_have_text("Taken back: 7.000 sat.")
    assert here.balance()["available_msat"] == before


def test_a_token_is_copied_by_one_press(here: House) -> None:
    with here.window(permissions=["clipboard-read", "clipboard-write"]) as page:
        go(page, "connect")
        page.get_by_role("button", name="Copy the lines for OpenAI's apps").click()
        expect(page.get_by_text("Copied")).to_be_visible()
        copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == f"export OPENAI_BASE_URL={here.proxy.url}/v1\nexport OPENAI_API_KEY=otrta"


def test_an_invoice_is_paid_after_its_price_was_shown(here: House, page: Page) -> None:
    before = here.balance()["total_msat"]
    go(page, "pay")
    page.get_by_label("Lightning invoice").fill(invoice(3_000))
    page.get_by_role("button", name="Show what it costs").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Pay this invoice?")
    expect(page.locator("dl")).to_contain_text("3.000 sat")
    assert here.balance()["total_msat"] == before
    page.get_by_role("button", name="Pay 3.000 sat").click()
    expect(page.get_by_role("status")).to_contain_text("Paid.")
    assert here.balance()["total_msat"] <= before - 3_000


def test_a_call_is_in_the_activity_with_what_it_used_and_cost(here: House, page: Page) -> None:
    call(here)
    call(here, HOSTILE)
    go(page, "activity")
    rows = page.locator("section[aria-labelledby=entries] tbody tr")
    for row, model in ((rows.nth(0), HOSTILE), (rows.nth(1), "small")):
        expect(row).to_contain_text(model)
        expect(row).to_contain_text("10 / 20")
        expect(row).to_contain_text(f"-{COST_MSAT / 1000:.3f}")
    expect(page.locator("svg rect")).to_have_count(2)
    page.get_by_text("The same as a table").click()
    expect(page.get_by_role("columnheader", name="small")).to_be_visible()
    assert page.locator("main img").count() == 0


def test_spending_is_paused_and_resumed(here: House, page: Page) -> None:
    go(page, "limits")
    page.get_by_role("button", name="Pause all spending").click()
    expect(page.get_by_role("status")).to_contain_text("Paused")
    refused = ask(here)
    assert (refused.status_code, refused.json()["error"]["code"]) == (402, "spending_paused")
    go(page, "")
    expect(page.locator("main")).to_contain_text("Spending is paused.")
    go(page, "limits")
    page.get_by_role("button", name="Resume spending").click()
    expect(page.get_by_role("status")).to_have_text("Calls are paid again.")
    call(here)


def test_budgets_are_changed_where_they_are_shown(here: House, page: Page) -> None:
    go(page, "limits")
    page.get_by_text("Change the budgets").click()
    page.get_by_label("Each hour, in sat").fill("12,345")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("status")).to_have_text("Saved.")
    expect(page.get_by_role("row", name="This hour")).to_contain_text("12,345.000")
    assert here.wallet.act("config_get", key="budgets.per_hour_sat")["value"] == 12_345
    page.get_by_text("Change the budgets").click()
    page.get_by_label("Each hour, in sat").fill("-1")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("alert")).to_contain_text("whole number of sat")
    expect(page.get_by_label("Each hour, in sat")).to_have_value("-1")
    page.get_by_label("Each hour, in sat").fill("unlimited")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("row", name="This hour")).to_contain_text("no limit")
    here.complaints[:] = [text for text in here.complaints if "400" not in text]


def test_a_key_is_shown_once_pays_within_its_budget_and_is_taken_away(here: House, page: Page) -> None:
    go(page, "limits")
    page.get_by_text("Make a key").click()
    page.get_by_label("Name").fill("editor")
    page.get_by_label("In all, in sat").fill("100")
    page.get_by_role("button", name="Make the key").click()
    key = page.locator("#key").inner_text()
    assert key.startswith("sk-otrta-app-")
    page.reload()
    expect(page.get_by_role("status")).to_contain_text("A key is shown once")
    assert key not in page.content()
    assert ask(here, key=key).status_code == 200
    go(page, "activity")
    expect(page.locator("section[aria-labelledby=entries] tbody tr").first).to_contain_text("editor")
    go(page, "limits")
    page.get_by_role("button", name="Remove the key editor").click()
    expect(page.get_by_role("status")).to_contain_text("was removed")
    assert ask(here, key=key).status_code == 401


def test_a_call_that_waits_for_approval_goes_on_when_it_has_it(here: House, page: Page) -> None:
    here.wallet.act("config_set", values={"budgets.approve_above_sat": 0})
    try:
        with ThreadPoolExecutor(1) as aside:
            waiting = aside.submit(ask, here)
            while not here.wallet.act("approvals"):
                assert not waiting.done()
            go(page, "")
            expect(page.locator("main")).to_contain_text("1 call waits for your approval.")
            page.get_by_role("link", name="Decide").click()
            page.get_by_role("button", name="Approve small").click()
            expect(page.get_by_role("status")).to_have_text("Approved.")
            assert waiting.result().status_code == 200
            refused = aside.submit(ask, here)
            while not here.wallet.act("approvals"):
                assert not refused.done()
            page.reload()
            page.get_by_role("button", name="Deny small").click()
            expect(page.get_by_role("status")).to_have_text("Denied.")
            assert refused.result().status_code == 403
    finally:
        here.wallet.act("config_set", values={"budgets.approve_above_sat": None})


def test_gateways_stand_side_by_side_and_come_and_go(here: House, purse: Purse, page: Page) -> None:
    with small_gateway(purse, ("small", "other"), price_msat=900_000) as second:
        go(page, "gateways")
        page.get_by_label("Add a gateway").fill(second)
        page.get_by_role("button", name="Add", exact=True).first.click()
        expect(page.get_by_role("status")).to_contain_text("Added")
        prices = page.locator("section[aria-labelledby=prices]")
        expect(prices.get_by_role("row", name=re.compile("^small"))).to_contain_text("900.000 / 5,000.000")
        expect(prices.get_by_text("cheapest", exact=True)).to_have_count(1)
        expect(prices).to_contain_text(HOSTILE)
        page.get_by_role("button", name=f"Remove {second.removeprefix('http://')}").click()
        expect(page.get_by_role("status")).to_contain_text("Removed")
    page.get_by_role("button", name="Remove", exact=False).last.click()
    expect(page.get_by_role("alert")).to_contain_text("money or open business")
    here.complaints[:] = [text for text in here.complaints if "409" not in text]


def test_what_is_pending_is_recovered_by_a_press(here: House, page: Page) -> None:
    go(page, "pending")
    page.get_by_role("button", name="Recover now").click()
    expect(page.get_by_role("status")).to_contain_text("Everything was asked for.")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_fits_a_phone(here: House, page: Page, scheme: str, tmp_path: Path) -> None:
    page.set_viewport_size(PHONE)
    page.emulate_media(color_scheme=scheme)
    for place in PLACES:
        go(page, place)
        width = page.evaluate("document.documentElement.scrollWidth")
        assert (place, width) == (place, PHONE["width"])
        page.screenshot(path=tmp_path / f"{place or 'overview'}-{scheme}.png", full_page=True)
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == ("rgb(245, 246, 248)" if scheme == "light" else "rgb(16, 20, 26)")
    page.get_by_role("link", name="Menu").click()
    page.get_by_role("link", name="Top up").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Top up")


def test_every_page_is_sound(here: House, page: Page) -> None:
    """One first heading, levels in order, a name for every control, no order of its own for the keyboard."""
    for place in PLACES:
        go(page, place)
        assert page.locator("html").get_attribute("lang") == "en"
        levels = page.evaluate("[...document.querySelectorAll('main :is(h1,h2,h3)')].map(h => +h.tagName[1])")
        assert levels[0] == 1
        assert levels.count(1) == 1
        assert all(after - before <= 1 for before, after in pairwise(levels))
        assert page.locator("[tabindex]:not([tabindex='0']):not([tabindex='-1'])").count() == 0
        nameless = page.evaluate(
            "[...document.querySelectorAll('input:not([type=hidden]),select,textarea')]"
            ".filter(c => !c.labels.length).map(c => c.outerHTML)"
        )
        assert nameless == []
        ids = page.evaluate("[...document.querySelectorAll('[id]')].map(e => e.id)")
        assert len(ids) == len(set(ids))


def test_without_scripts_everything_can_be_read_and_an_invoice_be_looked_at(here: House) -> None:
    with here.window(java_script_enabled=False) as page:
        for place in PLACES:
            go(page, place)
            expect(page.get_by_role("heading", level=1)).to_be_visible()
        go(page, "topup")
        page.get_by_label("Amount in sat").fill("5")
        page.get_by_role("button", name="Make an invoice").click()
        expect(page.get_by_role("status")).to_have_text("Waiting for the payment.")
        page.get_by_role("link", name="Check now").click()
        expect(page.get_by_role("status")).to_contain_text("Paid.")
        assert page.get_by_role("button", name="Copy").count() == 0


def test_another_page_can_neither_frame_nor_order_nor_read(here: House, purse: Purse) -> None:
    """A page of another port of this host is as near as a stranger's page gets."""
    with small_gateway(purse) as elsewhere, here.window() as page:
        inside = page.url
        before = here.balance()["total_msat"]
        go(page, "send")
        fields = {
            name: page.locator(f"main input[name={name}]").first.get_attribute("value")
            for name in ("csrf", "once")
        }
        page.goto(elsewhere)
        cookies = page.context.cookies(elsewhere)
        assert cookies == []
        read = "u => fetch(u, {credentials: 'include'}).then(r => r.text(), e => 'refused')"
        assert page.evaluate(read, inside) == "refused"
        page.evaluate(
            """([action, fields]) => {
                const form = document.createElement("form");
                form.method = "post"; form.action = action;
                for (const [name, value] of Object.entries({...fields, amount: "3"})) {
                    const input = document.createElement("input");
                    input.name = name; input.value = value; form.append(input);
                }
                document.documentElement.append(form); form.submit();
            }""",
            [f"{inside}send", fields],
        )
        page.wait_for_url("**/send")
        expect(page.locator("body")).to_contain_text("foreign_origin")
        page.goto(elsewhere)
        page.evaluate(
            "u => document.documentElement.append(Object.assign(document.createElement('iframe'), {src: u}))",
            inside,
        )
        framed = page.frame_locator("iframe").locator("body")
        expect(framed).not_to_contain_text("Can be spent")
        assert "chrome-error://" in page.frames[1].url
        assert here.balance()["total_msat"] == before
    here.complaints.clear()
