import inspect

import pytest

from otrta_core import InvalidRequest, OtrtaError, errors

TREE = [value for _, value in inspect.getmembers(errors, inspect.isclass) if issubclass(value, OtrtaError)]


def test_the_base_cannot_be_raised_itself() -> None:
    with pytest.raises(TypeError, match="base class"):
        OtrtaError("anything")


@pytest.mark.parametrize("error", [e for e in TREE if e is not OtrtaError], ids=lambda e: e.__name__)
def test_every_error_has_its_own_code_and_status_in_the_drawn_tree(error: type[OtrtaError]) -> None:
    line = next(row for row in (errors.__doc__ or "").splitlines() if f" {error.__name__} " in row)
    assert line.endswith(f"{error.code}, {error.http_status}")
    assert [e for e in TREE if e.code == error.code] == [error]


def test_an_error_keeps_its_message_and_parameter() -> None:
    error = InvalidRequest("say what to do", param="messages")
    assert (error.message, str(error), error.param) == ("say what to do", "say what to do", "messages")
