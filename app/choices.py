"""A choice that stands in the address: read from it, checked, and written back."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import streamlit as st

Option = TypeVar("Option", bound=str)

PREFIX = "choice_"


def chosen(
    name: str,
    title: str,
    options: Sequence[Option],
    default: Option,
    *,
    show: Callable[[Option], str] = str,
    forgets: Sequence[str] = (),
    help: str | None = None,  # noqa: A002, as streamlit calls it
) -> Option:
    """A box to choose from; an option the address names and that there is not gets a notice and the default.

    Args:
        name: parameter of the address.
        forgets: parameters that mean nothing any more once another option is chosen.
    """
    key, asked = PREFIX + name, st.query_params.get(name)
    if key not in st.session_state and asked is not None and asked not in options:
        st.warning(f"The address names no usable “{name}”; the default is shown.", icon=":material/link_off:")
    if st.session_state.get(key, "") not in options:
        st.session_state[key] = asked if asked in options else default
    value = st.selectbox(
        title,
        options,
        key=key,
        format_func=lambda each: plain(show(each)),
        on_change=forget,
        args=tuple(forgets),
        help=help,
    )
    if value != default:
        st.query_params[name] = value
    elif name in st.query_params:
        del st.query_params[name]
    return value


def choose(name: str, value: str) -> None:
    """Choose before the box is drawn again."""
    st.session_state[PREFIX + name] = value


def forget(*names: str) -> None:
    """Leave these to their defaults."""
    for name in names:
        st.session_state.pop(PREFIX + name, None)
        if name in st.query_params:
            del st.query_params[name]


def plain(text: str) -> str:
    """An option on one line of readable length."""
    line = " ".join(text.split())
    return line if len(line) <= 120 else f"{line[:119]}…"
