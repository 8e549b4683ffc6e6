"""What calls cost by day and model, as the bars of a chart. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

WIDTH: Final = 720
HEIGHT: Final = 230
MODELS: Final = 5
"""How many models have a colour of their own."""

_LEFT, _TOP, _BOTTOM = 64, 12, 26
_GAP: Final = 0.3


@dataclass(frozen=True, slots=True)
class Series:
    """One model's bars, or those of all the others together."""

    name: str
    number: int
    total_msat: int
    by_day_msat: Sequence[int]


@dataclass(frozen=True, slots=True)
class Bar:
    """A rectangle in the chart's own measure."""

    x: float
    y: float
    width: float
    height: float
    number: int
    says: str


@dataclass(frozen=True, slots=True)
class Chart:
    """Everything that is drawn.

    Attributes:
        series: by colour, dearest first.
        bars: of all days.
        rules: height and msat of each line across.
        labels: place and text below the days.
        days: of each day its date and what each series cost.
    """

    series: Sequence[Series]
    bars: Sequence[Bar]
    rules: Sequence[tuple[float, int]]
    labels: Sequence[tuple[float, str]]
    days: Sequence[tuple[str, Sequence[int]]]
    total_msat: int
    width: int = WIDTH
    height: int = HEIGHT
    left: int = _LEFT


def draw(spending: Mapping[str, Any]) -> Chart | None:
    """Draw what the action ``spending`` told; None where nothing was spent."""
    series = _series(spending["models"])
    if not series:
        return None
    days: Sequence[str] = spending["days"]
    by_day = [[each.by_day_msat[day] for each in series] for day in range(len(days))]
    step = nice_step(max(map(sum, by_day)))
    top_msat = -(-max(map(sum, by_day)) // step) * step
    floor, room = HEIGHT - _BOTTOM, HEIGHT - _BOTTOM - _TOP
    slot = (WIDTH - _LEFT) / len(days)
    bars = []
    for day, costs in enumerate(by_day):
        below = 0
        for each, cost_msat in zip(series, costs, strict=True):
            if cost_msat:
                below += cost_msat
                bars.append(
                    Bar(
                        x=round(_LEFT + slot * (day + _GAP / 2), 2),
                        y=round(floor - room * below / top_msat, 2),
                        width=round(slot * (1 - _GAP), 2),
                        height=round(room * cost_msat / top_msat, 2),
                        number=each.number,
                        says=f"{days[day]}, {each.name}",
                    )
                )
    rules = [(round(floor - room * msat / top_msat, 2), msat) for msat in range(0, top_msat + 1, step)]
    every = max(1, len(days) // 5)
    labels = [
        (round(_LEFT + slot * (day + 0.5), 2), f"{date.fromisoformat(days[day]):%d %b}")
        for day in range((len(days) - 1) % every, len(days), every)
    ]
    told = [(name, costs) for name, costs in zip(days, by_day, strict=True) if any(costs)]
    return Chart(series, bars, rules, labels, told, sum(each.total_msat for each in series))


def nice_step(most_msat: int) -> int:
    """Return the distance of lines that makes three to five of them: 1, 2 or 5 of a power of ten."""
    power = 1
    while True:
        for step in (power, 2 * power, 5 * power):
            if step * 5 >= most_msat:
                return step
        power *= 10


def _series(models: Sequence[Mapping[str, Any]]) -> list[Series]:
    own = models if len(models) <= MODELS + 1 else models[:MODELS]
    series = [
        Series(each["model"], number, each["total_msat"], each["by_day_msat"])
        for number, each in enumerate(own, 1)
    ]
    rest = models[len(own) :]
    if rest:
        together = [sum(day) for day in zip(*(each["by_day_msat"] for each in rest), strict=True)]
        series.append(Series(f"{len(rest)} others", MODELS + 1, sum(together), together))
    return series
