"""What a call probably used, where neither the answer nor LiteLLM says."""

from dataclasses import replace

import litellm

from otrta_core import CallRequest, ModelPrice, Usage
from otrta_litellm.meter import BYTES_PER_TOKEN, Reading

TOKENIZER = "gpt-3.5-turbo"
"""Always at hand. By the model's own name LiteLLM would download a tokenizer for some."""

SOUND_TOKENS_PER_10_CHARACTERS = 15
"""What reading a text aloud takes, where sound is made of tokens: about 20 a second."""

SOUND_TOKENS_PER_TOKEN = 3
"""How many tokens of sound a token of a transcript was, where sound is given as tokens."""

TOKENS_PER_10_SECONDS = 33
"""How many tokens of a transcript are spoken in 10 seconds."""

TOKENS_PER_IMAGE = 1056
"""What OpenAI's picture of middle quality takes, where pictures are made of tokens."""


def counted(call: CallRequest, price: ModelPrice, reading: Reading) -> Usage:
    """Count a call from what was asked and what was delivered; takes milliseconds for a long text."""
    prompt = likely_prompt(call, price)
    match call.kind:
        case "embeddings" | "rerank" | "moderations":
            return Usage(prompt_tokens=prompt)
        case "speech":
            output = call.characters * SOUND_TOKENS_PER_10_CHARACTERS // 10
        case "images" | "image_edits":
            output = call.images_made * TOKENS_PER_IMAGE
        case "transcriptions":
            output = _tokens(reading)
            seconds = min(call.seconds, output * 10 // TOKENS_PER_10_SECONDS + 1)
            prompt += output * SOUND_TOKENS_PER_TOKEN
            return Usage(prompt_tokens=prompt, completion_tokens=output, seconds=seconds)
        case _:
            output = _tokens(reading)
    return Usage(prompt_tokens=prompt, completion_tokens=output)


def completed(stated: Usage, count: Usage) -> Usage:
    """Fill in a usage that was stated before the output was made."""
    prompt = stated.prompt_tokens or count.prompt_tokens
    return replace(
        stated,
        prompt_tokens=prompt,
        completion_tokens=max(stated.completion_tokens, count.completion_tokens),
    )


def likely_prompt(call: CallRequest, price: ModelPrice) -> int:
    """Return how many tokens a prompt probably was."""
    pictures = call.images * (price.image_input_tokens or 0)
    return max(1, call.prompt_tokens // BYTES_PER_TOKEN) + pictures


def _tokens(reading: Reading) -> int:
    """Count the delivered text; of a very long one its beginning, and the rest in proportion."""
    kept_bytes = len(reading.text.encode("utf-8", "surrogatepass"))
    if not kept_bytes:
        return reading.text_bytes // BYTES_PER_TOKEN
    try:
        found = int(litellm.token_counter(model=TOKENIZER, text=reading.text))
    except Exception:  # whatever a tokenizer makes of a stranger's text, the call has to be settled
        found = kept_bytes // BYTES_PER_TOKEN
    return found * reading.text_bytes // kept_bytes
