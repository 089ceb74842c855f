"""The workbench: `streamlit run app/main.py [-- --runs-dir runs --evals-dir evals]`."""

from pathlib import Path

import streamlit as st

from app import loading
from core.errors import InputError

st.set_page_config(page_title="Credence", page_icon=str(Path(__file__).with_name("icon.png")), layout="wide")
# no empty band below the menu; dark ink on the chips of the dark theme, where white on light blue cannot be read
st.html(
    "<style>[data-testid=stMainBlockContainer] { padding-top: 4rem; }"
    + ("[data-tag], [data-tag] * { color: #14171b !important; }" if loading.theme() == "dark" else "")
    + "</style>"
)

page = st.navigation(
    [
        st.Page("views/runs.py", title="Runs", icon=":material/show_chart:", url_path="runs", default=True),
        st.Page("views/tokens.py", title="Tokens", icon=":material/token:", url_path="tokens"),
        st.Page("views/benchmarks.py", title="Benchmarks", icon=":material/leaderboard:", url_path="benchmarks"),
    ],
    position="top",
)
loading.look_again()
try:
    page.run()
except InputError as error:
    st.error("This cannot be shown. What the file or the address said:", icon=":material/error:")
    st.code(str(error), language=None, wrap_lines=True)
