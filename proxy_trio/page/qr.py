"""QR codes as SVG that stands in a page. Takes long for long texts, so call it in a thread."""

from typing import Final

import segno
from markupsafe import Markup
from segno import DataOverflowError

LONGEST: Final = 1_800
"""Characters beyond which cameras of phones find it hard to read a code from a screen."""
_SMALL: Final = 500


def qr_svg(text: str, label: str) -> Markup | None:
    """Return a text as a QR code, or None where it is too long for one that can be read.

    Args:
        text: what it holds.
        label: what it is called for those who do not see it.
    """
    if len(text) > LONGEST:
        return None
    try:
        code = segno.make(text, error="l", micro=False, boost_error=False)
    except (DataOverflowError, ValueError):
        return None
    drawn = code.svg_inline(border=2, omitsize=True, svgclass=None, lineclass=None)
    # segno draws the squares; that it is an image, and of what, is said around it
    size = "qr dense" if len(text) > _SMALL else "qr"
    return Markup('<div class="{}" role="img" aria-label="{}">{}</div>').format(size, label, Markup(drawn))  # noqa: S704
