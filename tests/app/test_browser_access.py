"""All pages at once: addresses that can be passed on, text that wants to do harm, and readers without eyes or mouse."""

import re

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from benchmarks.browser import PATIENCE_MS, settle

pytestmark = pytest.mark.xdist_group("browser")

HEATMAP = "section.credence"
PAGES: dict[str, dict[str, str | int]] = {
    "": {"runs": "cepo,rlsd"},
    "tokens": {"run": "cepo", "step": 1, "rollout": 0, "tok": 7},
    "benchmarks": {},
}
READY = {"": ".js-plotly-plot .main-svg", "tokens": f"{HEATMAP} .body span.t", "benchmarks": "table"}
TABS = ("By+token+class", "Find+tokens", "What+if+r⁻", "Rollouts", "Values", "Export")
LITERALLY = (
    "<script>window.__xss=1</script>", '<img src=x onerror="window.__xss=1">', "</style><b>bold</b>", "</script>",
    "$x^2$", ":red[a]", "**b**", "![p](http://198.51.100.7/p.png)", "[go](javascript:window.__xss=1)",
    "⟨U+202E⟩gnol⟨U+202C⟩", "a⟨U+200B⟩b", "⟨U+0007⟩", "↵", "=1+1", "@SUM(A1)", "&lt;", "⟨E2⟩⟨96⟩", "█", "⟨FF⟩",
)  # fmt: skip
"""How the hostile pieces of `run_files.py` have to stand on the page."""


def open_ready(workbench, page: Page, name: str, **address: str | int) -> None:
    """Open a page and wait for what it is about."""
    workbench.open(page, name, **address)
    expect(page.locator(READY[name]).first).to_be_visible()


def test_deeplink(workbench, page, browser: Browser):
    address = {
        "run": "cepo", "step": 3, "rollout": 1, "tok": 7, "eps": 0.3, "lam": 0.2, "view": "delta", "left": "grpo",
        "right": "cepo", "marks": "2-5",
    }  # fmt: skip
    open_ready(workbench, page, "tokens", **address)
    heatmap = page.locator(HEATMAP)
    expect(heatmap.locator(".inspector")).to_contain_text("#7")
    expect(heatmap.locator("[data-slider=eps]")).to_have_value("0.3")
    expect(heatmap.locator("[data-slider=lam]")).to_have_value("0.2")
    expect(heatmap.get_by_role("button", name="raw Δ")).to_have_attribute("aria-pressed", "true")
    expect(heatmap.get_by_label("Method of the left panel")).to_have_value("grpo")
    expect(heatmap.locator("button.callout")).to_have_count(2)
    heatmap.locator(".body").nth(1).locator("span.t[data-i='9']").click()
    expect(page).to_have_url(re.compile(r"[?&]tok=9\b"))
    settle(page)
    with browser.new_context(viewport={"width": 1400, "height": 1000}) as elsewhere:
        elsewhere.set_default_timeout(PATIENCE_MS)
        other = elsewhere.new_page()
        other.goto(page.url)
        expect(other.locator(f"{HEATMAP} .inspector")).to_contain_text("#9")
        settle(other)
        for part in (".body", ".inspector", ".rate", ".controls"):
            ours, theirs = (each.locator(f"{HEATMAP} {part}").all_text_contents() for each in (page, other))
            assert ours == theirs, part
        classes = "spans => spans.map(s => s.className)"
        ours, theirs = (each.locator(READY["tokens"]).evaluate_all(classes) for each in (page, other))
        assert ours == theirs
        assert other.url == page.url


def assert_harmless(page: Page) -> None:
    """Nothing that was recorded became a part of the page."""
    assert page.evaluate("window.__xss") is None
    for made in ("img[src='x']", "img[src*='198.51.100.7']", "a[href^='javascript']", "b:text-is('bold')"):
        assert page.locator(made).count() == 0, made
    assert page.locator("[data-testid=stMain] .katex").count() == 0


def test_hostile_text(workbench, page):
    open_ready(workbench, page, "tokens", run="hostile", step=1, rollout=0)
    for side in (0, 1):
        text = page.locator(f"{HEATMAP} .body").nth(side).text_content() or ""
        assert [piece for piece in LITERALLY if piece not in text] == []
    question = page.locator("dl").filter(has_text="question").first
    expect(question).to_contain_text("<script>window.__xss=1</script>")
    for index in range(len(LITERALLY)):
        page.locator(f"{HEATMAP} .body").first.locator(f"span.t[data-i='{index}']").hover()
    assert_harmless(page)
    for tab in TABS[1:]:
        open_ready(workbench, page, "tokens", run="hostile", step=1, rollout=0, tab=tab)
        assert_harmless(page)
    open_ready(workbench, page, "", runs="hostile")
    expect(page.get_by_text("<script>window.__xss=1</script>").first).to_be_attached()
    assert_harmless(page)
    open_ready(workbench, page, "benchmarks")
    expect(page.get_by_text("<script>window.__xss=1</script>").first).to_be_attached()
    assert_harmless(page)


def test_what_an_address_says_is_never_run(workbench, page):
    poison = "%3Cimg%20src%3Dx%20onerror%3D%22window.__xss%3D1%22%3E"
    for name in PAGES:
        keys = ("run", "runs", "step", "view", "tab", "model", "baseline", "x", "left", "marks")
        workbench.open(page, name, **dict.fromkeys(keys, poison))
        assert_harmless(page)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a11y(workbench, page, theme):
    page.emulate_media(color_scheme=theme)
    found = {}
    for name, address in PAGES.items():
        open_ready(workbench, page, name, **address)
        result = Axe().run(page, options={"resultTypes": ["violations"], "runOnly": ["wcag2a", "wcag2aa"]})
        for violation in result.response["violations"]:
            if violation["impact"] in ("serious", "critical"):
                places = [node["target"] for node in violation["nodes"]][:3]
                found[name or "runs", violation["id"]] = (violation["help"], places)
    assert found == {}


def test_the_heatmap_is_reached_and_read_by_keyboard_alone(workbench, page):
    open_ready(workbench, page, "tokens", run="cepo", step=1, rollout=0)
    page.locator(f"{HEATMAP} [data-slider=lam]").focus()
    reached = page.locator(f"{HEATMAP} span.t:focus")
    for _ in range(8):
        page.keyboard.press("Tab")
        if reached.count():
            break
    expect(reached).to_have_count(1)
    page.keyboard.press("ArrowRight")
    expect(page.locator(f"{HEATMAP} .inspector[aria-live=polite]")).to_contain_text("#1")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(r"[?&]tok=1\b"))
