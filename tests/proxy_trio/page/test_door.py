"""Nobody gets behind the page's door but this machine's user, and no other page gets them to do anything."""

import re
import sys

import pytest
import trio

pytestmark = pytest.mark.trio

EXTRA = "http://localhost:3000"
PLACES = ["", "leave"]


async def test_the_page_asks_a_browser_for_the_local_token_and_tells_a_program_what_is_served(
    visitor, tmp_path
):
    async with visitor(tmp_path) as alice:
        shown = await alice.http.get("/", headers=alice.html)
        assert (shown.status_code, "Local token" in shown.text) == (200, True)
        assert "POST /v1/chat/completions" in (await alice.http.get("/")).json()["serves"]


async def test_the_local_token_logs_in_with_a_cookie_of_that_session_alone(visitor, tmp_path):
    async with visitor(tmp_path) as alice:
        answer = await alice.log_in()
        assert answer.status_code == 303
        cookie = answer.headers["set-cookie"]
        assert re.fullmatch(
            rf"otrta_page=[\w-]{{32}}; HttpOnly; Max-Age=\d+; Path={alice.base}; SameSite=strict", cookie
        )
        assert (await alice.look()).status_code == 200


@pytest.mark.parametrize("token", ["", "wrong", "the-local-token2"])
async def test_another_token_does_not(visitor, tmp_path, token):
    async with visitor(tmp_path) as alice:
        answer = await alice.log_in(token)
        assert (answer.status_code, "set-cookie" in answer.headers) == (401, False)
        assert "not the local token" in answer.text


async def test_without_a_session_every_page_leads_to_the_door(visitor, tmp_path):
    async with visitor(tmp_path) as alice:
        await alice.log_in()
        alice.http.cookies.clear()
        for path in (alice.base, f"/wallet/{'x' * 32}/"):
            answer = await alice.http.get(path)
            assert (answer.status_code, answer.headers["location"]) == (303, "/?over=1")


async def test_the_cookie_alone_is_not_enough(visitor, tmp_path):
    """It reaches whoever serves another port of this host; the path does not."""
    async with visitor(tmp_path) as alice:
        await alice.log_in()
        (cookie,) = alice.http.cookies.jar
        answer = await alice.http.get(
            f"/wallet/{'x' * 32}/", headers={"Cookie": f"{cookie.name}={cookie.value}"}
        )
        assert answer.headers["location"] == "/?over=1"


async def test_a_one_time_link_logs_in_once(visitor, tmp_path):
    async with visitor(tmp_path) as alice:
        bearer = {"Authorization": "Bearer the-local-token", "Content-Type": "application/json"}
        link = (await alice.http.post("/_otrta/page_link", content=b"{}", headers=bearer)).json()
        assert link["expires_s"] == 600
        assert (await alice.http.head(link["path"])).status_code == 401
        opened = await alice.http.get(link["path"])
        alice.base = re.search(r'url=(/wallet/[\w-]+/)"', opened.text)[1]
        assert (await alice.look()).status_code == 200
        again = await alice.http.get(link["path"])
        assert (again.status_code, "set-cookie" in again.headers) == (401, False)


async def test_a_link_is_made_for_the_local_token_alone(visitor, tmp_path):
    async with visitor(tmp_path) as alice:
        headers = {"Authorization": "Bearer wrong", "Content-Type": "application/json"}
        assert (await alice.http.post("/_otrta/page_link", headers=headers)).status_code == 401


async def test_who_logs_out_is_out(visitor, tmp_path):
    async with visitor(tmp_path) as alice:
        await alice.log_in()
        kept = alice.http.cookies.jar._cookies["127.0.0.1"][alice.base]["otrta_page"].value
        answer = await alice.fill_in("leave", form_at="")
        assert (answer.status_code, answer.headers["location"]) == (303, "/?over=1")
        again = await alice.http.get(alice.base, headers={"Cookie": f"otrta_page={kept}"})
        assert again.headers["location"] == "/?over=1"


async def test_every_page_forbids_framing_scripts_of_others_and_being_kept(visitor, tmp_path):
    async with visitor(tmp_path) as alice:
        await alice.log_in()
        for path in ("/", alice.base, "/wallet/nowhere", f"{alice.base}nowhere", "/wallet/assets/none"):
            headers = (await alice.http.get(path, headers=alice.html)).headers
            policy = dict(
                part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";")
            )
            assert policy == {
                "default-src": "'none'",
                "script-src": "'self'",
                "style-src": "'self'",
                "img-src": "'self'",
                "connect-src": "'self'",
                "form-action": "'self'",
                "base-uri": "'none'",
                "frame-ancestors": "'none'",
            }
            assert headers["cache-control"] == "no-store"
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["referrer-policy"] == "same-origin"
            assert headers["cross-origin-resource-policy"] == "same-origin"


async def test_no_page_holds_a_style_or_a_script_of_its_own(visitor, tmp_path):
    async with visitor(tmp_path) as alice:
        await alice.log_in()
        for path in ("/", alice.base):
            text = (await alice.http.get(path, headers=alice.html)).text
            assert re.findall(r"<style|\sstyle=|\son\w+=|<script(?! src=)", text) == []
            for asset in re.findall(r'(?:src|href)="(/wallet/assets/[^"]+)"', text):
                assert (await alice.http.get(asset)).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": EXTRA},
        {"Origin": "null"},
        {"Origin": "http://evil.example"},
        {"Sec-Fetch-Site": "same-site", "Origin": "{own}"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "{own}"},
        {"Sec-Fetch-Site": "none"},
        {},
    ],
)
async def test_a_form_of_another_page_is_refused(visitor, tmp_path, headers):
    async with visitor(tmp_path) as alice:
        await alice.log_in()
        shown = (await alice.look()).text
        hidden = dict(re.findall(r'name="(csrf|once)" value="([^"]+)"', shown))
        told = {name: value.format(own=alice.origin) for name, value in headers.items()}
        answer = await alice.http.post(f"{alice.base}leave", data=hidden, headers=told)
        assert answer.status_code == 403
        assert (await alice.look()).status_code == 200


@pytest.mark.parametrize(
    "headers", [{"Sec-Fetch-Site": "same-site"}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": EXTRA}]
)
async def test_a_trusted_origin_of_apps_cannot_read_the_wallet(visitor, tmp_path, headers):
    async with visitor(tmp_path) as alice:
        await alice.log_in()
        answer = await alice.http.get(alice.base, headers=headers)
        assert (answer.status_code, "Can be spent" in answer.text) == (403, False)


@pytest.mark.parametrize("change", [{"csrf": "x"}, {"csrf": ""}, {"once": ""}])
async def test_a_form_without_the_sessions_own_word_is_refused(visitor, tmp_path, change):
    async with visitor(tmp_path) as alice:
        await alice.log_in()
        hidden = dict(re.findall(r'name="(csrf|once)" value="([^"]+)"', (await alice.look()).text))
        answer = await alice.send("leave", **{**hidden, **change})
        assert answer.status_code == 403
        assert (await alice.look()).status_code == 200


async def test_a_form_of_another_session_is_refused(visitor, tmp_path):
    async with visitor(tmp_path) as alice:
        await alice.log_in()
        hidden = dict(re.findall(r'name="(csrf|once)" value="([^"]+)"', (await alice.look()).text))
        await alice.log_in()
        assert (await alice.send("leave", **hidden)).status_code == 403


async def test_what_is_no_form_or_too_large_is_refused(visitor, tmp_path):
    async with visitor(tmp_path) as alice:
        headers = {"Origin": alice.origin}
        as_json = await alice.http.post("/wallet/login", json={"token": "x"}, headers=headers)
        large = await alice.http.post("/wallet/login", data={"token": "x" * (2 << 20)}, headers=headers)
        many = await alice.http.post("/wallet/login", data={f"n{n}": "x" for n in range(41)}, headers=headers)
        assert [as_json.status_code, large.status_code, many.status_code] == [400, 413, 400]


async def test_nothing_of_the_page_is_loaded_before_somebody_looks():
    code = "import sys, otrta_cli.serve_command as _; print({'jinja2', 'segno'} & set(sys.modules))"
    ran = await trio.run_process([sys.executable, "-c", code], capture_stdout=True)
    assert ran.stdout == b"set()\n"


async def test_a_foreign_host_is_refused_before_anything(visitor, tmp_path):
    async with visitor(tmp_path) as alice:
        answer = await alice.http.get("/", headers={**alice.html, "Host": "evil.example"})
        assert (answer.status_code, answer.headers["content-type"]) == (403, "application/json")
