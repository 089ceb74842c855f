"""Moving about: the URL is what says where one is."""

from dataclasses import fields, replace
from typing import Any

import streamlit as st

from app.address import Address, parse, to_parameters


def go(**changes: Any) -> None:
    """Change the address of Tokens; what is not named stays."""
    address, _ = parse(st.query_params)
    wanted = to_parameters(replace(address, **changes))
    for field in fields(Address):
        if field.name in wanted:
            st.query_params[field.name] = wanted[field.name]
        elif field.name in st.query_params:
            del st.query_params[field.name]


def go_to_widget(name: str, key: str, **changes: Any) -> None:
    """Change the address to what a widget now says."""
    go(**{name: st.session_state[key]}, **changes)
