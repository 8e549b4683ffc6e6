"""Whether a sound is as short as its size makes it for the quote: no longer one is sold by the second."""

import math

from anyio import CapacityLimiter, to_thread

from otrta_core import RequestNotPriceable
from otrta_core.sound import playing_seconds
from otrta_litellm.terms import Terms


class Hearing:
    """Looks at sounds, one at a time, beside the event loop."""

    def __init__(self) -> None:
        self._one = CapacityLimiter(1)

    async def check(self, terms: Terms) -> None:
        """Check that the sound of a call plays no longer than it was priced for.

        Raises:
            RequestNotPriceable: it does, or that cannot be told.
        """
        if terms.call.kind != "transcriptions" or terms.form is None or not terms.price.second_msat:
            return
        (sound,) = terms.form.files
        seconds = await to_thread.run_sync(playing_seconds, bytes(sound.content), limiter=self._one)
        plays, most = math.ceil(seconds), terms.call.seconds
        if plays > most:
            raise RequestNotPriceable(
                f"the sound plays {plays} s, and {most} s are the most for its size: "
                "send it less compressed, or without its silence",
                param="file",
            )
