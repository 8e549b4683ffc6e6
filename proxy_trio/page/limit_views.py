"""Pages on what may be spent: budgets, the pause switch, calls that wait for approval, keys for apps."""

from collections.abc import Mapping
from typing import Any, Final

from starlette.responses import Response

from otrta_core import parse_amount_msat
from proxy_trio.errors import ActionInvalid
from proxy_trio.page.visit import Visit

UNLIMITED: Final = "unlimited"
_SETTINGS: Final = ("per_request_sat", "per_hour_sat", "per_day_sat", "per_month_sat", "approve_above_sat")
_KEY_LIMITS: Final = ("per_request_msat", "per_day_msat", "per_month_msat", "total_msat")
_DAY_S: Final = 86_400
_MOST_DAYS: Final = 3_650


async def limits(visit: Visit) -> Response:
    """Show budgets with what is left, what waits for approval, and the apps' keys."""
    budgets = await visit.act("budgets")
    in_force = visit.client.settings.budgets.model_dump()
    return visit.show(
        "limits.html",
        here="limits",
        budgets=budgets,
        approvals=await visit.act("approvals"),
        settings={name: in_force[name] for name in _SETTINGS},
    )


async def set_limits(visit: Visit) -> Response:
    """Write budgets into config.toml; they hold at once."""
    values = {f"budgets.{name}": _limit_sat(visit.form[name]) for name in _SETTINGS if visit.form.get(name)}
    if not values:
        raise ActionInvalid("Every field is empty. Write a number of sat, or “unlimited”.")
    told = await visit.act("config_set", values=values)
    ruled = ", ".join(sorted(set(told["overruled_by"].values())))
    return visit.go("limits", f"Saved, but {ruled} of the environment goes before it." if ruled else "Saved.")


async def pause(visit: Visit) -> Response:
    """Let nothing leave for calls any more."""
    await visit.act("pause")
    return visit.go("limits", "Paused: no call is paid until you resume.")


async def resume(visit: Visit) -> Response:
    """Let calls be paid again."""
    await visit.act("resume")
    return visit.go("limits", "Calls are paid again.")


async def approve(visit: Visit) -> Response:
    """Let a call that waits be paid."""
    await visit.act("approve", id=visit.request.path_params["id"])
    return visit.go("limits", "Approved.")


async def deny(visit: Visit) -> Response:
    """Refuse a call that waits."""
    await visit.act("deny", id=visit.request.path_params["id"])
    return visit.go("limits", "Denied.")


async def add_key(visit: Visit) -> Response:
    """Make a key for an app, which the next page shows once."""
    models = [name for name in visit.form.get("models", "").replace(",", " ").split() if name]
    made = await visit.act(
        "keys_add",
        name=visit.form.get("name", ""),
        limits=_key_limits(visit.form),
        models=models or "any",
        expires_in_s=_days(visit.form.get("days", "")) * _DAY_S,
    )
    return _show_key(visit, made)


async def rotate_key(visit: Visit) -> Response:
    """Put another key in the place of one."""
    return _show_key(visit, await visit.act("keys_rotate", name=visit.request.path_params["name"]))


async def remove_key(visit: Visit) -> Response:
    """Take a key away."""
    gone = await visit.act("keys_remove", name=visit.request.path_params["name"])
    return visit.go("limits", f"The key {gone['name']} was removed: its app is refused from now on.")


async def key(visit: Visit) -> Response:
    """Show a key that was just made, once."""
    name = visit.request.path_params["name"]
    text = visit.session.to_show.pop(f"key {name}", None)
    if text is None:
        return visit.go("limits", "A key is shown once, when it is made. Rotate it to get another.")
    return visit.show("key.html", here="limits", name=name, key=text)


def _show_key(visit: Visit, made: Mapping[str, Any]) -> Response:
    visit.session.to_show.put(f"key {made['name']}", made["key"])
    return visit.go(f"key/{made['name']}")


def _key_limits(form: Mapping[str, str]) -> dict[str, int]:
    given = {name: form.get(name, "").replace(",", "").replace(" ", "") for name in _KEY_LIMITS}
    return {name: parse_amount_msat(text) for name, text in given.items() if text}


def _limit_sat(text: str) -> int | str:
    """Return a budget as config.toml has it: whole sat, or the word for none."""
    plain = text.replace(",", "").replace(" ", "").lower()
    if plain == UNLIMITED:
        return UNLIMITED
    if not (plain.isascii() and plain.isdecimal() and len(plain) < 16):
        raise ActionInvalid("A budget is a whole number of sat, or “unlimited”.")
    return int(plain)


def _days(text: str) -> int:
    if not text:
        return 0
    if not (text.isascii() and text.isdecimal() and len(text) < 5 and 0 < int(text) <= _MOST_DAYS):
        raise ActionInvalid(f"A key lasts for 1 to {_MOST_DAYS} days, or for ever where the field is empty.")
    return int(text)
