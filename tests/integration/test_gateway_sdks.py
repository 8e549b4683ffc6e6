"""OpenAI's and Anthropic's own clients, which know nothing of change, read every answer in both its forms."""

from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from otrta_core import Token
from tests.integration.purse import Purse
from tests.integration.shop import COST_MSAT, Shop

pytestmark = pytest.mark.integration

PAID = 20_000
ANSWER = "Each word of this answer is one token , café and 日本 too , so twenty words cost twenty tokens"
HI: list[ChatCompletionMessageParam] = [{"role": "user", "content": "hi"}]


class Clients:
    """Both clients; whoever takes one makes one call with it, paid by a token of its own."""

    def __init__(self, shop: Shop, purse: Purse, headers: dict[str, str]) -> None:
        self._shop, self._purse, self._headers = shop, purse, headers
        self.tokens: list[Token] = []
        self._openai = openai.OpenAI(
            base_url=f"{shop.url}/v1",
            api_key="none",
            max_retries=0,
            http_client=openai.DefaultHttpxClient(trust_env=False),
        )
        self._anthropic = anthropic.Anthropic(
            base_url=shop.url,
            api_key="none",
            max_retries=0,
            http_client=anthropic.DefaultHttpxClient(trust_env=False),
        )

    @property
    def openai(self) -> openai.OpenAI:
        """OpenAI's, for one call."""
        return self._openai.with_options(default_headers=self._paying())

    @property
    def anthropic(self) -> anthropic.Anthropic:
        """Anthropic's, for one call."""
        return self._anthropic.with_options(default_headers=self._paying())

    def _paying(self) -> dict[str, str]:
        self.tokens.append(self._purse.token(PAID))
        return {"X-Cashu": self.tokens[-1].encode(), **self._headers}

    def close(self) -> None:
        self._openai.close()
        self._anthropic.close()

    def cost(self) -> int:
        """What the last call cost; the rest of its token is change that the mint knows."""
        left = self._shop.wait_until_over(self.tokens[-1])
        assert left.json["cost_msat"] + left.json["fee_msat"] + left.json["change_msat"] == PAID
        assert left.change is not None
        assert self._purse.states(left.change) == {"UNSPENT"}
        return int(left.json["cost_msat"])


@pytest.fixture(params=[{}, {"X-Cashu-Change": "sse"}], ids=["header", "sse"])
def clients(shop: Shop, purse: Purse, request: pytest.FixtureRequest) -> Iterator[Clients]:
    """The clients, in each of the two ways in which change can come."""
    clients = Clients(shop, purse, request.param)
    yield clients
    clients.close()


def test_chat(clients: Clients) -> None:
    plain = clients.openai.chat.completions.create(model="demo-chat", messages=HI)
    assert plain.choices[0].message.content == ANSWER
    assert clients.cost() == COST_MSAT
    chunks = list(clients.openai.chat.completions.create(model="demo-chat", messages=HI, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == ANSWER
    assert clients.cost() == COST_MSAT


def test_chat_with_its_usage_at_the_end(clients: Clients) -> None:
    options: Any = {"stream": True, "stream_options": {"include_usage": True}}
    chunks = list(clients.openai.chat.completions.create(model="demo-chat", messages=HI, **options))
    assert chunks[-1].usage.completion_tokens == 20
    assert clients.cost() == COST_MSAT


def test_completions(clients: Clients) -> None:
    plain = clients.openai.completions.create(model="demo-chat", prompt="hi")
    assert plain.choices[0].text == ANSWER
    assert clients.cost() == COST_MSAT
    chunks = clients.openai.completions.create(model="demo-chat", prompt="hi", stream=True)
    assert "".join(chunk.choices[0].text or "" for chunk in chunks) == ANSWER
    assert clients.cost() == COST_MSAT


def test_responses(clients: Clients) -> None:
    plain = clients.openai.responses.create(model="demo-chat", input="hi")
    assert (plain.output_text, plain.usage and plain.usage.output_tokens) == (ANSWER, 20)
    assert clients.cost() == COST_MSAT
    events = list(clients.openai.responses.create(model="demo-chat", input="hi", stream=True))
    assert "".join(e.delta for e in events if e.type == "response.output_text.delta") == ANSWER
    assert events[-1].type == "response.completed"
    assert clients.cost() == COST_MSAT


@pytest.mark.parametrize("model", ["demo-claude", "demo-chat"])
def test_messages(clients: Clients, model: str) -> None:
    said: Any = {"model": model, "max_tokens": 100, "messages": HI}
    plain = clients.anthropic.messages.create(**said)
    assert (plain.content[0].text, plain.usage.output_tokens) == (ANSWER, 20)
    assert clients.cost() == COST_MSAT
    with clients.anthropic.messages.stream(**said) as stream:
        assert "".join(stream.text_stream) == ANSWER
        assert stream.get_final_message().usage.output_tokens == 20
    assert clients.cost() == COST_MSAT


def test_embeddings(clients: Clients) -> None:
    made = clients.openai.embeddings.create(model="demo-embed", input=["hi", "ho"])
    assert [len(item.embedding) for item in made.data] == [8, 8]
    assert clients.cost() == 10


def test_moderations(clients: Clients) -> None:
    assert len(clients.openai.moderations.create(model="demo-moderate", input="hi").results) == 1
    assert clients.cost() == 50


def test_images(clients: Clients) -> None:
    made = clients.openai.images.generate(model="demo-image", prompt="a cat", n=2)
    assert len(made.data or ()) == 2
    assert clients.cost() == 2 * 5000 + 10


def test_speech(clients: Clients) -> None:
    sound = clients.openai.audio.speech.create(model="demo-speech", voice="alloy", input="hi there")
    assert sound.content
    assert clients.cost() == 8 * 15


def test_transcriptions(clients: Clients) -> None:
    sound = ("hi.wav", wav(2), "audio/wav")
    heard = clients.openai.audio.transcriptions.create(model="demo-transcribe", file=sound)
    assert heard.text
    assert clients.cost() == 2 * 100


def wav(seconds: int) -> bytes:
    """A silent sound."""
    rate = 8000
    data = bytes(rate * seconds)
    head = b"WAVEfmt " + (16).to_bytes(4, "little") + b"\x01\x00\x01\x00" + rate.to_bytes(4, "little")
    head += rate.to_bytes(4, "little") + b"\x01\x00\x08\x00data" + len(data).to_bytes(4, "little")
    return b"RIFF" + (len(head) + len(data)).to_bytes(4, "little") + head + data


def test_an_error_is_the_clients_own(clients: Clients) -> None:
    with pytest.raises(openai.RateLimitError, match="as demo-429 always says"):
        clients.openai.chat.completions.create(model="demo-429", messages=HI, stream=True)
    assert clients.cost() == 0
    with pytest.raises(anthropic.RateLimitError, match="as demo-429 always says"):
        clients.anthropic.messages.create(model="demo-429", max_tokens=100, messages=[*HI])  # type: ignore[list-item]
    assert clients.cost() == 0


def test_a_stream_that_is_cut_is_an_error_after_its_words(clients: Clients) -> None:
    chunks: list[str] = []
    stream = clients.openai.chat.completions.create(model="demo-cut", messages=HI, stream=True)
    with pytest.raises(openai.APIError):
        chunks.extend(chunk.choices[0].delta.content or "" for chunk in stream)
    assert ANSWER.startswith("".join(chunks))
    assert 0 < clients.cost() < COST_MSAT
