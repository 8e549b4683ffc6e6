"""What LiteLLM's router could do with a model name: the deployments that may answer, limits, USD prices.

Read only, and without I/O: ``litellm.get_model_info`` may ask a provider over the network, so the price map
is read directly. The router is asked with its own resolvers. A price that is not known is None; 0 stands only
where the map or the operator says 0.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import litellm
from litellm.router_utils.fallback_event_handlers import get_fallback_model_group

from otrta_core.requests import Kind

_FALLBACK_LISTS = ("fallbacks", "context_window_fallbacks", "content_policy_fallbacks")
_TIER_MARK = "_above_"
_SERVICE_TIERS = ("batches", "flex", "priority", "ultrafast", "balanced", "decisions")
_RESOLUTION = re.compile(r"_[0-9][0-9.]*[Kkp]?$")  # as in output_cost_per_image_4K
_COST_WORDS = ("cost", "tiered_pricing")


@dataclass(frozen=True, slots=True)
class UsdPrices:
    """Prices in USD, each the dearest of its tiers; None where neither the map nor the config has it."""

    input_per_token: Decimal | None = None
    cached_input_per_token: Decimal | None = None
    cache_write_per_token: Decimal | None = None
    output_per_token: Decimal | None = None
    reasoning_per_token: Decimal | None = None
    per_request: Decimal | None = None
    per_search: Decimal | None = None
    per_input_image: Decimal | None = None
    per_output_image: Decimal | None = None
    per_pixel: Decimal | None = None
    output_per_text_token: Decimal | None = None
    output_per_image_token: Decimal | None = None
    input_per_audio_token: Decimal | None = None
    output_per_audio_token: Decimal | None = None
    per_character: Decimal | None = None
    per_second: Decimal | None = None


# Image tokens are billed as prompt or completion tokens, so their price counts among those.
_FIELDS: Mapping[str, tuple[str, ...]] = {
    "input_per_token": ("input_cost_per_token", "input_cost_per_image_token"),
    "cached_input_per_token": (
        "cache_read_input_token_cost",
        "input_cost_per_token_cache_hit",
        "cache_read_input_image_token_cost",
    ),
    "cache_write_per_token": ("cache_creation_input_token_cost",),
    "output_per_token": ("output_cost_per_token", "output_cost_per_image_token"),
    "reasoning_per_token": ("output_cost_per_reasoning_token",),
    "per_request": ("input_cost_per_query", "input_cost_per_request"),
    "per_search": ("search_context_cost_per_query",),
    "per_input_image": ("input_cost_per_image",),
    "per_output_image": ("output_cost_per_image",),
    "per_pixel": ("input_cost_per_pixel", "output_cost_per_pixel"),
    "output_per_text_token": ("output_cost_per_token",),
    "output_per_image_token": ("output_cost_per_image_token",),
    "input_per_audio_token": ("input_cost_per_audio_token",),
    "output_per_audio_token": ("output_cost_per_audio_token",),
    "per_character": ("input_cost_per_character", "output_cost_per_character"),
    "per_second": ("input_cost_per_second", "output_cost_per_second", "input_cost_per_audio_per_second"),
}


@dataclass(frozen=True, slots=True)
class Deployment:
    """One place that may answer a call: ``group`` is the public model name that it answers under.

    ``reasons`` tells whether it may reason before it answers, as LiteLLM's map or its ``model_info`` says.
    """

    group: str
    deployment_id: str
    litellm_model: str
    mode: str | None
    max_input_tokens: int | None
    max_output_tokens: int | None
    prices: UsdPrices
    reasons: bool = False


@dataclass(frozen=True, slots=True)
class ForcedModels:
    """Models that stand instead of the one asked for; the order is that of ``resolve_inference_model``.

    Attributes:
        everywhere: of LiteLLM's command line.
        completion: for all that LiteLLM runs through its common processing.
        image_generation: for images.
        moderation: for moderations, and for transcriptions as well.
    """

    everywhere: str | None = None
    completion: str | None = None
    image_generation: str | None = None
    moderation: str | None = None

    def instead_of(self, model: str, kind: Kind, *, in_path: bool) -> str:
        """Return the model that LiteLLM takes for a call."""
        named = model if in_path else None
        match kind:
            case "images":
                return self.everywhere or named or self.image_generation or model
            case "image_edits":
                return self.completion or self.everywhere or named or self.image_generation or model
            case "moderations" | "transcriptions":
                return self.everywhere or self.moderation or model
            case "speech":
                return self.everywhere or model
            case "rerank":
                return model
            case _:
                return self.completion or self.everywhere or model


@dataclass(frozen=True, slots=True)
class RouterView:
    """A view of the router that ``router`` returns at each call; LiteLLM replaces its router when it reloads.

    ``forced`` returns the models that LiteLLM uses whatever a body says, where the operator set any.
    """

    router: Callable[[], Any]
    forced: Callable[[], "ForcedModels"] = lambda: ForcedModels()

    @classmethod
    def of_proxy(cls) -> "RouterView":
        """The view of the running LiteLLM proxy."""
        # Imported when the proxy runs: the module starts the whole proxy application.
        from litellm.proxy import proxy_server

        def forced() -> ForcedModels:
            settings = proxy_server.general_settings or {}
            names = (
                proxy_server.user_model,
                settings.get("completion_model"),
                settings.get("image_generation_model"),
                settings.get("moderation_model"),
            )
            return ForcedModels(*(name if isinstance(name, str) and name else None for name in names))

        return cls(lambda: proxy_server.llm_router, forced)

    def routed(self, model: str, kind: Kind, *, in_path: bool = False) -> str:
        """Return the public name that LiteLLM routes a call by.

        Args:
            model: as it is asked for.
            kind: which API.
            in_path: whether the path names it, not the body.
        """
        return self.forced().instead_of(model, kind, in_path=in_path)

    def model_names(self) -> list[str]:
        """The public names that can be asked for, sorted; no wildcards, hidden aliases or team names."""
        router = self.router()
        if router is None:
            return []
        blocked = router.get_fully_blocked_model_names()
        names = {name for name in router.get_model_names() if name and "*" not in name}
        return sorted(names - blocked)

    def candidates(self, model: str) -> list[Deployment]:
        """Every deployment that may answer a call for ``model``, those of each fallback in reach included.

        Empty when LiteLLM knows no such public name. Deployment ids, upstream names and ``"a,b"``, which
        LiteLLM also takes, are not public names. Takes about 1 ms per deployment.
        """
        router = self.router()
        asked = litellm.model_alias_map.get(model, model)
        if router is None or not asked or "," in asked:
            return []
        if asked not in router.model_names and router.has_model_id(asked):
            return []
        found: list[Deployment] = []
        waiting, seen = [asked], {asked}
        while waiting:
            group = waiting.pop(0)
            entries = _entries(router, group)
            if not entries and group == asked:
                return []
            found += [_deployment(group, entry) for entry in entries]
            direct = [name for entry in entries for name in _direct_fallbacks(entry)]
            found += [_deployment(name, {"litellm_params": {"model": name}}) for name in direct]
            for name in _fallbacks(router, group):
                if name not in seen:
                    seen.add(name)
                    waiting.append(name)
        return found


def _entries(router: Any, group: str) -> list[Mapping[str, Any]]:
    resolved = router.get_model_from_alias(model=group) or group
    entries = router.get_model_list_of_routed_group(resolved)
    if not entries and router.default_deployment is not None:
        default = router.default_deployment
        entries = [{**default, "litellm_params": {**default["litellm_params"], "model": resolved}}]
    return [entry for entry in entries if _info(entry).get("blocked") is not True]


def _fallbacks(router: Any, group: str) -> Iterator[str]:
    """The groups that LiteLLM may turn to when ``group`` fails for any reason, by its own lookup."""
    resolved = router.get_model_from_alias(model=group) or group
    for list_name in _FALLBACK_LISTS:
        chains = [chain for chain in getattr(router, list_name, None) or [] if chain]
        for name in dict.fromkeys((group, resolved)):
            targets, _ = get_fallback_model_group(chains, name) if chains else (None, None)
            yield from _names(targets)


def _direct_fallbacks(entry: Mapping[str, Any]) -> Iterator[str]:
    """Upstream names that a deployment's own ``litellm_params.fallbacks`` calls without the router."""
    yield from _names(_params(entry).get("fallbacks"))


def _names(targets: object) -> Iterator[str]:
    for target in targets if isinstance(targets, list) else []:
        name = target.get("model") if isinstance(target, Mapping) else target
        if isinstance(name, str):
            yield name


def _deployment(group: str, entry: Mapping[str, Any]) -> Deployment:
    params, info = _params(entry), _info(entry)
    model = str(params.get("model") or "")
    model = litellm.model_alias_map.get(model, model)
    known = _map_entry(
        model, params.get("custom_llm_provider"), info.get("base_model") or params.get("base_model")
    )
    known = {**known, "tiered_pricing": [*(known.get("tiered_pricing") or []), *_by_size(model, known)]}
    limits = {**known, **_set(info)}
    return Deployment(
        group=group,
        deployment_id=str(info.get("id") or ""),
        litellm_model=model,
        mode=limits.get("mode") if isinstance(limits.get("mode"), str) else None,
        max_input_tokens=_limit(limits.get("max_input_tokens")),
        max_output_tokens=_limit(limits.get("max_output_tokens")) or _limit(limits.get("max_tokens")),
        prices=_prices(known, {**_costs(info), **_costs(params)}, params.get("service_tier")),
        reasons=limits.get("supports_reasoning") is True,
    )


def _map_entry(model: str, provider: str | None, base_model: str | None) -> Mapping[str, Any]:
    """The entry of LiteLLM's price map for an upstream model; empty when it has none for that provider."""
    if base_model:
        return litellm.model_cost.get(base_model) or {}
    name = model
    if provider is None:
        try:
            name, provider, _, _ = litellm.get_llm_provider(model=model)
        except litellm.exceptions.BadRequestError:
            return {}
    for key in dict.fromkeys((model, f"{provider}/{name}", name)):
        entry = litellm.model_cost.get(key)
        if (
            isinstance(entry, Mapping)
            and _same_provider(entry.get("litellm_provider"), provider)
            and _costs(entry)
        ):
            return entry
    return {}


def _by_size(model: str, known: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The prices of dearer sizes and qualities that the map has under names such as ``hd/1024-x-1024/m``."""
    if known.get("output_cost_per_image") is None:
        return
    name = model.rpartition("/")[2]
    for key, entry in litellm.model_cost.items():
        if "-x-" in key and key.endswith(f"/{name}") and isinstance(entry, Mapping):
            listed = entry.get("litellm_provider"), known.get("litellm_provider")
            if listed[0] == listed[1]:
                prices = (entry.get("output_cost_per_image"), entry.get("input_cost_per_image"))
                yield from ({"output_cost_per_image": price} for price in prices if price is not None)


def _same_provider(listed: object, provider: str | None) -> bool:
    if not isinstance(listed, str) or provider is None:
        return listed is None
    return listed == provider or listed.startswith((f"{provider}_", f"{provider}-"))


def _prices(known: Mapping[str, Any], own: Mapping[str, Any], service_tier: object) -> UsdPrices:
    """The operator's own price of a kind stands instead of all the map's tiers of that kind."""
    own_kinds = {_kind(key)[0] for key in own}
    listed = {key: value for key, value in known.items() if _kind(key)[0] not in own_kinds}
    if own_kinds & {"input_cost_per_token", "output_cost_per_token", "output_cost_per_image"}:
        listed.pop("tiered_pricing", None)
    tiers = [
        tier
        for source in (listed, own)
        for tier in source.get("tiered_pricing") or []
        if isinstance(tier, Mapping)
    ]
    dearest: dict[str, Decimal] = {}
    for source in (listed, own, *tiers):
        for key, value in source.items():
            kind, tier = _kind(key)
            if tier is None or tier == service_tier:
                for usd in _amounts(value):
                    dearest[kind] = max(usd, dearest.get(kind, usd))
    return UsdPrices(
        **{
            field: max((dearest[kind] for kind in kinds if kind in dearest), default=None)
            for field, kinds in _FIELDS.items()
        }
    )


def _kind(key: str) -> tuple[str, str | None]:
    """Split a key of the price map: what it prices, and the service tier that it holds for."""
    name, _, tier = key.rpartition("_")
    if tier not in _SERVICE_TIERS:
        name, tier = key, ""
    return _RESOLUTION.sub("", name.partition(_TIER_MARK)[0]), tier or None


def _amounts(value: object) -> Iterator[Decimal]:
    for amount in value.values() if isinstance(value, Mapping) else (value,):
        usd = _usd(amount)
        if usd is not None:
            yield usd


def _usd(value: object) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        usd = Decimal(str(value))
    except ArithmeticError:
        return None
    return usd if usd.is_finite() and usd >= 0 else None


def _costs(source: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in _set(source).items() if any(word in key for word in _COST_WORDS)}


def _set(source: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in source.items() if value is not None}


def _params(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    return entry.get("litellm_params") or {}


def _info(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    return entry.get("model_info") or {}


def _limit(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
