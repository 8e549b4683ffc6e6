"""Forms as LiteLLM gets them: written anew from what ``otrta_core.multipart`` read.

What goes out has a boundary of the gateway's own, the allowed fields, and the files with nothing of their
caller's but the content, the ending of their name and a plain media type. So LiteLLM and the gateway cannot
read the same form differently.
"""

import secrets
from collections.abc import Collection, Iterable

from otrta_core.multipart import Form


def write_form(form: Form, allowed: Collection[str], model: str) -> tuple[str, bytes]:
    """Write a form for LiteLLM.

    Args:
        form: as the caller sent it.
        allowed: names of the texts that go out.
        model: the one that is bought, which a path may name instead of the form.

    Returns:
        Its media type and its bytes.
    """
    boundary = f"otrta-{secrets.token_hex(16)}"
    out: list[bytes | memoryview] = []
    for name, text in [("model", model), *_allowed(form.fields, allowed)]:
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'
        out += [head.encode(), text.encode(), b"\r\n"]
    for file in form.files:
        head = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="{file.name}"; '
            f'filename="{file.filename}"\r\nContent-Type: {file.media_type}\r\n\r\n'
        )
        out += [head.encode(), file.content, b"\r\n"]
    out.append(f"--{boundary}--\r\n".encode())
    return f"multipart/form-data; boundary={boundary}", b"".join(out)


def _allowed(fields: Iterable[tuple[str, str]], allowed: Collection[str]) -> list[tuple[str, str]]:
    # an empty text counts as absent, and LiteLLM takes the text "false" for true
    return [
        (name, text) for name, text in fields if name in allowed and name not in ("model", "stream") and text
    ]
