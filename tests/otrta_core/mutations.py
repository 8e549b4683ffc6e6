"""Well-formed values with something changed: what a hostile writer of a real format would send."""

from typing import Any

from hypothesis import strategies as st

_strange = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([2**31, 2**53, 2**63 - 1, 2**63, 2**64 - 1, -(2**63)]),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["", "\0", "cashu", "nostr", "P2PK", "0" * 66, "02" + "ab" * 32, "ff" * 33, "x" * 5000]),
    st.just([]),
    st.just({}),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.sampled_from(["a", "t", "p", "w"]), st.integers(), max_size=2),
)
_bytes = st.sampled_from([b"", bytes(8), bytes(33), b"\2" + b"\xab" * 32]) | st.binary(max_size=40)


@st.composite
def mutated_trees(draw: st.DrawFn, tree: Any, *, binary: bool) -> Any:
    """``tree`` after one to three changes: a value replaced, taken out, doubled, or moved elsewhere.

    Args:
        draw: hypothesis'.
        tree: of JSON's shapes.
        binary: whether byte strings can stand in it.
    """
    root = [_copy(tree)]
    strange = _strange | _bytes if binary else _strange
    for _ in range(draw(st.integers(1, 3))):
        parent, key = draw(st.sampled_from(_places(root)))
        match draw(st.sampled_from(["replace", "remove", "double", "move"])):
            case "replace":
                parent[key] = draw(strange)
            case "remove" if parent is not root:
                del parent[key]
            case "double" if isinstance(parent, list) and parent is not root:
                parent.append(_copy(parent[key]))
            case _:
                source, name = draw(st.sampled_from(_places(root)))
                parent[key] = _copy(source[name])
    return root[0]


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copy(each) for key, each in value.items()}
    return [_copy(each) for each in value] if isinstance(value, list) else value


def _places(root: list[Any]) -> list[tuple[Any, Any]]:
    """Every place of the tree, as a container and a key in it."""
    found = []
    containers: list[Any] = [root]
    while containers:
        container = containers.pop()
        for key in range(len(container)) if isinstance(container, list) else list(container):
            found.append((container, key))
            if isinstance(container[key], list | dict):
                containers.append(container[key])
    return found


@st.composite
def mutated_bytes(draw: st.DrawFn, data: bytes) -> bytes:
    """``data`` after one to four edits: a byte altered, a piece cut out, put in, or doubled."""
    edited = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(edited)))
        end = min(len(edited), start + draw(st.integers(0, 20)))
        match draw(st.sampled_from(["alter", "cut", "insert", "double"])):
            case "alter" if start < len(edited):
                edited[start] = draw(st.integers(0, 255))
            case "cut":
                del edited[start:end]
            case "double":
                edited[start:start] = edited[start:end]
            case _:
                edited[start:start] = draw(st.binary(min_size=1, max_size=8))
    return bytes(edited)
