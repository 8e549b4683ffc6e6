"""Where settings come from: LiteLLM's config, variables, and files such as Docker's secrets.

``OTRTA_GATEWAY_<KEY>`` stands before the config's key, and ``OTRTA_GATEWAY_<KEY>_FILE`` names a file that
holds the value, the way that official container images read their secrets. A value that begins with ``{`` or
``[`` is JSON.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from otrta_litellm.setting_faults import ENV_PREFIX, ROOT, SettingsError

MAX_FILE_BYTES: Final = 1 << 20


def gathered(
    values: object, keys: Iterable[str], environ: Mapping[str, str]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the settings as they were given, and by key the variable that gave each that one gave.

    Raises:
        SettingsError: the config's part is no mapping, or a variable cannot be read.
    """
    if values is not None and not isinstance(values, Mapping):
        raise SettingsError(f"{ROOT} must be a mapping of settings, such as {{mints: https://mint.example}}")
    merged: dict[str, Any] = dict(values or {})
    origins: dict[str, str] = {}
    for key in keys:
        name = ENV_PREFIX + key.upper()
        text, path = environ.get(name), environ.get(f"{name}_FILE")
        if text is not None and path is not None:
            raise SettingsError(f"{name} and {name}_FILE are both set: take one of them out")
        if path is not None:
            name, text = f"{name}_FILE", _content(f"{name}_FILE", path)
        if text is not None:
            merged[key], origins[key] = _value(name, text), name
    return merged, origins


def _content(name: str, path: str) -> str:
    try:
        data = Path(path).expanduser().read_bytes()[: MAX_FILE_BYTES + 1]
        text = data.decode("utf-8").strip()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise SettingsError(f"{name} names a file that cannot be read: {reason}") from None
    if not text or len(data) > MAX_FILE_BYTES:
        raise SettingsError(f"{name} names a file that is {'too large' if text else 'empty'}")
    return text


def _value(name: str, text: str) -> Any:
    if not text.lstrip().startswith(("{", "[")):
        return text
    try:
        return json.loads(text)
    except ValueError:
        raise SettingsError(f"{name} begins like JSON and is none: check its quotes and brackets") from None
