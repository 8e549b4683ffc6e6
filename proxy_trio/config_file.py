"""Changing ``config.toml`` as a person would: what else is in it, comments too, stays as it is.

The file is read, changed, checked as a whole and replaced in one step; where the result would not hold, the
file stays and the error names the key.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import tomlkit
from tomlkit.exceptions import TOMLKitError

from proxy_trio.client_settings import (
    ANY_WORD,
    CONFIG_FILE,
    LISTS,
    SETTINGS,
    ClientSettings,
    SettingsInvalid,
    from_environment,
    settings_of,
    variable,
)
from proxy_trio.private_files import make_private, write_private

LIVE: Final = ("budgets.", "require_keys")
"""What holds at once in a running proxy; the rest does so at its next start."""

_WORDS: Final = {"true": True, "false": False, "yes": True, "no": False}


def setting(settings: ClientSettings, key: str) -> Any:
    """Return the value of a setting, as JSON can hold it.

    Raises:
        SettingsInvalid: there is no such setting.
    """
    found: Any = settings.model_dump(mode="json")
    for part in _known(key).split("."):
        found = found[part]
    return found


def put_settings(home: Path, changes: Mapping[str, Any], environ: Mapping[str, str]) -> ClientSettings:
    """Write settings into the file of a home, and return those that are in force then.

    Args:
        home: the directory; made if there is none.
        changes: values by key: numbers, words, truths or lists, or any of these as typed by a person. None
            takes a setting out, so that its default holds again.
        environ: variables go before the file; a value under them is written and does not hold yet.

    Raises:
        SettingsInvalid: a key or a value is wrong, or the file was wrong already; nothing was written.
    """
    path = home / CONFIG_FILE
    document = _read(path)
    for key, value in changes.items():
        _put(document, _known(key), value)
    # what a person types is a number here and a word there: the settings know which
    checked = settings_of(document.unwrap(), path, {})
    for key, value in changes.items():
        if value is not None:
            _put(document, key, setting(checked, key))
    in_force = settings_of(document.unwrap(), path, environ)
    make_private(home)
    write_private(path.resolve(), tomlkit.dumps(document))
    return in_force


def changed(keys: Sequence[str], in_force: ClientSettings, environ: Mapping[str, str]) -> dict[str, Any]:
    """Tell of what was written: what holds, what the environment overrules, what waits for a restart."""
    told = from_environment(environ)
    return {
        "values": {key: setting(in_force, key) for key in keys},
        "overruled_by": {key: variable(key) for key in keys if key in told},
        "at_next_start": [key for key in keys if not key.startswith(LIVE)],
    }


def typed(key: str, words: Sequence[str]) -> Any:
    """Read what a person typed as the value of a setting: several words, or one with commas, are a list.

    Raises:
        SettingsInvalid: there is no such setting, or it takes one value.
    """
    if _known(key) in LISTS:
        if list(words) == [ANY_WORD]:
            return ANY_WORD
        return [part.strip() for word in words for part in word.split(",") if part.strip()]
    if len(words) != 1:
        raise SettingsInvalid(f"{key} takes one value")
    digits = words[0].replace("_", "").replace(",", "")
    return _WORDS.get(words[0].lower(), digits if digits.isdecimal() else words[0])


def _known(key: str) -> str:
    if key not in SETTINGS:
        raise SettingsInvalid(f"{key} is no setting of otrta. There are: {', '.join(SETTINGS)}")
    return key


def _read(path: Path) -> tomlkit.TOMLDocument:
    try:
        return tomlkit.parse(path.read_text("utf-8"))
    except FileNotFoundError:
        return tomlkit.document()
    except (TOMLKitError, UnicodeDecodeError, OSError, RecursionError) as error:
        raise SettingsInvalid(f"{path} cannot be read: {error}") from None


def _put(document: tomlkit.TOMLDocument, key: str, value: Any) -> None:
    section, _, name = key.rpartition(".")
    try:
        place: Any = document
        if section:
            if section not in document:
                if value is None:
                    return
                document.add(section, tomlkit.table())
            place = document[section]
        if value is None:
            place.pop(name, None)
        else:
            place[name] = value
    except (TOMLKitError, TypeError, AttributeError):
        raise SettingsInvalid(f"{section} in {CONFIG_FILE} is no section with settings in it") from None
