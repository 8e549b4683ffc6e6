"""Every pair of colours that text or a control is made of can be told apart, in the light and in the dark."""

import re
from pathlib import Path

import pytest

import proxy_trio.page

CSS = (Path(proxy_trio.page.__file__).parent / "assets/page.css").read_text()

TEXT = [
    ("ink", "ground"),
    ("ink", "card"),
    ("ink", "accent-wash"),
    ("ink", "good-wash"),
    ("ink", "warn-wash"),
    ("ink", "bad-wash"),
    ("soft", "ground"),
    ("soft", "card"),
    ("accent", "ground"),
    ("accent", "card"),
    ("accent", "accent-wash"),
    ("accent", "good-wash"),
    ("accent", "warn-wash"),
    ("accent", "bad-wash"),
    ("accent-ink", "accent"),
    ("good", "good-wash"),
    ("warn", "warn-wash"),
    ("bad", "bad-wash"),
    ("bad", "card"),
]
CONTROLS = [
    ("edge", "ground"),
    ("edge", "card"),
    ("accent", "card"),
    ("accent", "ground"),
    ("good", "good-wash"),
    ("warn", "warn-wash"),
    ("bad", "bad-wash"),
    ("warn", "ground"),
    ("bad", "ground"),
    *((f"series-{number}", "card") for number in range(1, 7)),
]


def colours(block: str) -> dict[str, str]:
    return dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", block))


LIGHT, DARK = (colours(block) for block in re.findall(r":root \{(.*?)\}", CSS, re.DOTALL))


def luminance(colour: str) -> float:
    """Relative luminance (WCAG 2.2)."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    brighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (brighter + 0.05) / (darker + 0.05)


def test_the_measure_is_right() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


def test_both_sets_have_the_same_names() -> None:
    assert LIGHT.keys() == DARK.keys()
    assert LIGHT.keys() >= {name for pair in TEXT + CONTROLS for name in pair}


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_has_a_contrast_of_4_5(theme: str) -> None:
    found = LIGHT if theme == "light" else DARK
    weak = {pair: contrast(found[pair[0]], found[pair[1]]) for pair in TEXT}
    assert {pair: ratio for pair, ratio in weak.items() if ratio < 4.5} == {}


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_edges_and_bars_have_a_contrast_of_3(theme: str) -> None:
    found = LIGHT if theme == "light" else DARK
    weak = {pair: contrast(found[pair[0]], found[pair[1]]) for pair in CONTROLS}
    assert {pair: ratio for pair, ratio in weak.items() if ratio < 3} == {}


def test_rules_take_their_colours_from_the_sets() -> None:
    rules = re.sub(r":root \{.*?\}", "", CSS, flags=re.DOTALL)
    literal = set(re.findall(r"#[0-9a-fA-F]{3,8}\b", rules))
    assert literal == {"#ffffff", "#000000"}  # the QR code's
