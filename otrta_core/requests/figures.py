"""The figures that a quote is made of."""

from dataclasses import dataclass
from typing import Final

TOKENS_PER_MESSAGE: Final = 16
TOKENS_PER_REQUEST: Final = 32
BYTES_PER_TOKEN_ID: Final = 128
"""The longest text that one token number stands for in a common tokenizer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Upper bounds of what a call can use, as far as its body tells.

    Attributes:
        prompt_tokens: of the prompt, images and audio not counted.
        images: input images.
        output_limit: the largest output limit given, in tokens per choice, or None where none is given.
        choices: how many answers are asked for; of images, how many are to be made.
        echoed_tokens: output tokens beyond the limit: a prompt that comes back with each choice.
        images_made: images to be made.
        characters: characters to be spoken.
        seconds: audio seconds to be heard.
        search_units: units that a rerank can be billed as; 0 for what is no rerank.
    """

    prompt_tokens: int
    images: int = 0
    output_limit: int | None = None
    choices: int = 1
    echoed_tokens: int = 0
    images_made: int = 0
    characters: int = 0
    seconds: int = 0
    search_units: int = 0
