"""The token heatmap as a component of the workbench, and as a page of its own for whoever has no workbench."""

import base64
import hashlib
import html
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

from streamlit.components.v2 import component

from analysis import style
from analysis.heatmap import Heatmap
from analysis.heatmap_svg import ramp

FOLDER = Path(__file__).parent
SCRIPT = (FOLDER / "heatmap.js").read_text(encoding="utf-8")


def _colours() -> str:
    """The rules of the 21 colour classes, both themes."""
    rules = []
    for theme in get_args(style.Theme):
        scope = f'.credence[data-theme="{theme}"]'
        rules.append(f"{scope} {{ --ink: {style.INK[theme]}; }}")
        rules += [f"{scope} .b{n} {{ background: {color}; }}" for n, color in enumerate(ramp(theme, "safe"))]
    return "\n".join(rules)


STYLES = _colours() + "\n" + (FOLDER / "heatmap.css").read_text(encoding="utf-8")

# Inline text and not files: only so do Streamlit's own tests see the component.
_component = component("credence.heatmap", css=STYLES, js=SCRIPT)


def heatmap(view: Heatmap, *, key: str, on_change: Callable[[], None] | None = None) -> dict[str, Any]:
    """Draw a heatmap; gives what a person last chose in it: eps, lam, view, left, right, token and callouts.

    Args:
        view: what to draw. The same tokens again are not built again: only choices that differ are applied.
        key: the component's name in the session.
        on_change: called when a choice was made, after a slider is released.
    """
    payload = view.payload()
    result = _component(
        key=key,
        data=payload,
        default={"state": payload["state"]},
        on_state_change=on_change or _nothing,
    )
    return dict(result.state)


def _nothing() -> None:
    """Streamlit asks for a callback of every state there is."""


PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ margin: 0 auto; max-width: 1500px; padding: 20px 28px 40px; color: {light_ink}; background: #ffffff;
  font: 15px/1.5 system-ui, sans-serif; }}
h1 {{ margin: 0 0 4px; font-size: 21px; }}
.caption {{ margin: 0 0 16px; white-space: pre-wrap; overflow-wrap: anywhere; }}
img {{ display: block; max-width: 100%; max-height: 340px; margin: 0 0 16px; background: #ffffff; }}
@media (prefers-color-scheme: dark) {{ body {{ color: {dark_ink}; background: #14171b; }} }}
@media print {{ body {{ max-width: none; padding: 0; }} }}
{styles}
</style>
</head>
<body>
<h1>{title}</h1>
<p class="caption">{caption}</p>
{image}<main></main>
<script type="application/json" id="heatmap">{data}</script>
<script type="module">{script}</script>
</body>
</html>
"""

START = """
mount({
  data: JSON.parse(document.getElementById("heatmap").textContent),
  parentElement: document.querySelector("main"),
  setStateValue: () => {},
});
"""


def page_html(view: Heatmap, image_png: bytes | None = None) -> str:
    """The same heatmap as one file that works offline, can reach nothing, and runs no script but ours."""
    # the page's one script has the hash its policy names, so nothing a model wrote could run even unescaped
    script = SCRIPT + START
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    image = ""
    if image_png is not None:
        encoded = base64.b64encode(image_png).decode()
        image = f'<img alt="The picture of the problem" src="data:image/png;base64,{encoded}">\n'
    data = json.dumps(view.payload(), ensure_ascii=True, allow_nan=False)
    return PAGE.format(
        policy=policy,
        title=html.escape(view.title or "Token heatmap"),
        caption=html.escape(view.caption),
        light_ink=style.INK["light"],
        dark_ink=style.INK["dark"],
        styles=STYLES,
        image=image,
        data=data.replace("<", "\\u003c"),
        script=script,
    )
