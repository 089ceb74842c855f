"""The heatmap in a browser, as the page it exports: core's numbers, linked panels, and nothing that gets out."""

import json
import os
import re
import runpy
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from types import SimpleNamespace

import numpy as np
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from analysis.heatmap import HATCHED, Heatmap
from app.components.heatmap import SCRIPT, page_html
from app.exports import find_chromium, pdf_of
from core.errors import InputError

pytestmark = pytest.mark.xdist_group("browser")

TESTS = Path(__file__).parents[1]
made_up = SimpleNamespace(**runpy.run_path(str(TESTS / "analysis" / "made_up_tokens.py")))

SECOND_FRAME = """async ([slider, value]) => {
  const start = performance.now();
  slider.value = value;
  slider.dispatchEvent(new Event("input", {bubbles: true}));
  await new Promise((painted) => requestAnimationFrame(() => requestAnimationFrame(painted)));
  return performance.now() - start;
}"""


@dataclass
class Opened:
    """An exported page in a browser."""

    page: Page
    left: list[str] = field(default_factory=list)
    """Addresses it asked for."""

    def token(self, index: int, side: int = 0) -> Locator:
        return self.page.locator(".body").nth(side).locator("span.t").nth(index)

    def slide(self, name: str, value: float) -> None:
        slider = self.page.locator(f"[data-slider={name}]")
        slider.evaluate("(slider, value) => { slider.value = value; slider.dispatchEvent(new Event('input')) }", value)

    def classes(self, side: int) -> list[str]:
        return self.page.locator(".body").nth(side).locator("span.t").evaluate_all("all => all.map(t => t.className)")

    def value(self, selector: str) -> float:
        return self.values().get(selector, float("nan"))

    def values(self) -> dict[str, float]:
        """Every number of the inspector, by the name of its fact, or its side and the name of its credit."""
        return self.page.locator(".inspector").evaluate(
            """(inspector) => Object.fromEntries([...inspector.querySelectorAll("data")].map((number) => {
              const side = number.closest("[data-side]")?.dataset.side;
              const place = number.closest("[data-fact], [data-credit]").dataset;
              return [place.fact ?? `${side} ${place.credit}`, Number(number.value)];
            }))"""
        )


@pytest.fixture
def opened(browser: Browser, tmp_path: Path) -> Iterator:
    """Opens a heatmap as a file, from no server at all; no error may reach the console."""
    contexts = []
    errors: list[str] = []

    def opener(view: Heatmap, theme: str = "light", image: bytes | None = None) -> Opened:
        path = tmp_path / "page.html"
        path.write_text(page_html(view, image), encoding="utf-8")
        context = browser.new_context(viewport={"width": 1400, "height": 900}, color_scheme=theme)
        contexts.append(context)
        page = context.new_page()
        shown = Opened(page)
        page.on("request", lambda request: shown.left.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: message.type == "error" and errors.append(message.text))
        page.goto(path.as_uri())
        expect(page.locator("section.credence")).to_be_visible()
        return shown

    yield opener
    for context in contexts:
        context.close()
    assert not errors


@pytest.mark.parametrize("advantage", [1.3, -0.8])
@pytest.mark.parametrize(("epsilon_w", "lam"), [(0.5, 0.5), (0.2, 1.0), (0.99, 0.07)])
def test_the_page_computes_what_core_computes(opened, advantage, epsilon_w, lam):
    start = made_up.heatmap(24, advantage)
    shown = opened(start)
    shown.slide("eps", epsilon_w)
    shown.slide("lam", lam)
    view = replace(start, epsilon_w=epsilon_w, lam=lam)
    shown.token(0).click()
    for i in range(24):
        assert shown.page.locator(".inspector .identity b").text_content() == f"#{i}"
        values = shown.values()
        for name in ("student", "correct", "wrong"):
            assert values[name] == pytest.approx(view.evidence[f"log_p_{name}"][i], rel=1e-6)
        for side, panel in zip(("left", "right"), view.panels, strict=True):
            assert values[f"{side} delta"] == pytest.approx(panel.delta[i], abs=1e-6)
            assert values[f"{side} weight"] == pytest.approx(panel.weight[i], rel=1e-6)
            assert values[f"{side} acting"] == pytest.approx(view.clipped_weight(panel)[i], rel=1e-6)
            assert values[f"{side} advantage"] == pytest.approx(panel.token_advantage[i], rel=1e-6)
        flags = shown.page.locator(".inspector td[data-credit=acting]").all_text_contents()
        arrows = {0: "", 1: "↑", -1: "↓"}
        assert [re.sub(r".*\(clipped (.)\)|.*", r"\1", flag) for flag in flags] == [
            arrows[int(panel.clipped[i])] for panel in view.panels
        ]
        shown.page.keyboard.press("ArrowRight")
    for side, panel in enumerate(view.panels):
        assert shown.page.locator(".rate").nth(side).text_content() == panel.rate


@pytest.mark.parametrize("colour", ["weight", "delta", "advantage", "difference"])
@pytest.mark.parametrize("methods", [("rlsd", "cepo"), ("grpo", "sdpo"), ("opsd", "cepo")])
def test_the_page_colours_as_the_drawing_does(opened, colour, methods):
    start = made_up.heatmap(300, -1.1, lam=0.7)
    spoilt = replace(start.tokens, log_p_wrong=np.where(np.arange(300) % 50 == 7, -np.inf, start.tokens.log_p_wrong))
    start = replace(start, tokens=spoilt, epsilon_w=0.35)
    shown = opened(start)
    for side, method in zip(("left", "right"), methods, strict=True):
        shown.page.locator(f"select[data-side={side}]").select_option(method)
    shown.page.locator(f"[data-view={colour}]:not(section)").click()
    view = replace(start, left=methods[0], right=methods[1], view=colour)
    for side, panel in enumerate(view.panels):
        bins = view.bins(panel)
        found = [(re.findall(r"b\d+|hatched", name) or [""])[0] for name in shown.classes(side)]
        expected = [""] * 300 if bins is None else ["hatched" if b == HATCHED else f"b{b}" for b in bins]
        assert found == expected
    texts = shown.page.locator(".legend .scale").all_text_contents()
    assert texts == [text + low + middle + high for low, middle, high, text in view.legends]
    if view.difference_missing and colour == "difference":
        expect(shown.page.locator(".comparison")).to_contain_text("gives no weights")


def test_sliders_repaint_and_snap_back_to_what_was_trained(opened):
    shown = opened(made_up.heatmap(200, lam=0.48, trained_lam=0.48, trained_epsilon_w=0.5))
    trained = shown.page.locator("button.trained")
    expect(trained).to_have_text("✓ as trained: ε 0.50, λ 0.48")
    before = shown.classes(1)
    shown.slide("eps", 0.01)
    assert sum("clipped" in name for name in shown.classes(1)) > sum("clipped" in name for name in before)
    shown.token(5, 1).click()
    assert shown.value("right acting") == pytest.approx(1, abs=0.0101)
    shown.slide("lam", 0)
    expect(shown.page.locator(".notice")).to_contain_text("λ = 0")
    assert shown.value("right advantage") == pytest.approx(1.2)
    expect(trained).to_be_enabled()
    trained.click()
    assert shown.classes(1) == before
    expect(trained).to_be_disabled()


def test_pointing_at_a_token_outlines_it_in_both_panels(opened):
    shown = opened(made_up.heatmap(60))
    shown.token(11).hover()
    marked = shown.page.locator("span.t[data-on]")
    assert marked.evaluate_all("all => all.map(t => t.dataset.i)") == ["11", "11"]
    expect(shown.page.get_by_role("status")).to_contain_text("#11")
    shown.page.locator(".legend").hover()
    expect(marked).to_have_count(0)


def test_keys_move_pin_and_unpin(opened):
    shown = opened(made_up.heatmap(200, token=20))
    status = shown.page.get_by_role("status")
    expect(status).to_contain_text("#20")
    shown.token(20).focus()
    for key, expected in (
        ("ArrowRight", 21), ("ArrowLeft", 20), ("End", 199), ("ArrowRight", 199), ("Home", 0), ("ArrowLeft", 0),
        ("ArrowRight", 1),
    ):  # fmt: skip
        shown.page.keyboard.press(key)
        expect(status).to_contain_text(f"#{expected}")
    assert shown.page.evaluate("document.activeElement.dataset.i") == "1"
    shown.page.keyboard.press("ArrowDown")
    lower = int(shown.page.evaluate("document.activeElement.dataset.i"))
    assert lower > 5, "the line below"
    shown.page.keyboard.press("ArrowUp")
    assert int(shown.page.evaluate("document.activeElement.dataset.i")) < lower
    shown.page.keyboard.press("Home")
    shown.page.keyboard.press("Enter")
    pinned = shown.page.locator("span.t[data-pin]")
    assert pinned.evaluate_all("all => all.map(t => t.dataset.i)") == ["0", "0"]
    shown.page.keyboard.press("Escape")
    expect(pinned).to_have_count(0)


def test_one_token_a_panel_is_a_tab_stop_and_reads_as_a_button(opened):
    shown = opened(made_up.heatmap(60))
    shown.token(9, 1).click()
    stops = shown.page.locator("span.t[tabindex='0']")
    assert (
        stops.evaluate_all("all => all.map(t => [t.dataset.i, t.role, t.ariaPressed])") == [["9", "button", "true"]] * 2
    )
    expect(shown.page.get_by_role("group", name="CEPO: tokens of the response")).to_be_visible()


def test_two_shift_clicks_make_a_callout_and_its_number_removes_it(opened):
    shown = opened(made_up.heatmap(80, callouts=((40, 44),)))
    shown.token(12).click(modifiers=["Shift"])
    expect(shown.page.get_by_role("status")).to_contain_text("Region open")
    shown.token(6, 1).click(modifiers=["Shift"])
    chips = shown.page.locator("button.callout")
    assert chips.all_text_contents() == ["②", "①", "②", "①"]
    inside = shown.page.locator(".body").nth(0).locator("span.t[data-in]")
    assert inside.evaluate_all("all => all.map(t => Number(t.dataset.i))") == [*range(6, 13), *range(40, 45)]
    shown.page.get_by_role("button", name="Remove callout 1").first.click()
    assert chips.all_text_contents() == ["①", "①"]
    assert inside.evaluate_all("all => all.map(t => Number(t.dataset.i))") == [*range(6, 13)]


@pytest.mark.parametrize("advantage", [1.0, -1.0])
def test_the_inspector_tells_proposition_1(opened, advantage):
    view = made_up.heatmap(30, advantage)
    shown = opened(view)
    shown.token(0).click()
    for i in range(12):
        wrong, student = view.evidence["log_p_wrong"][i], view.evidence["log_p_student"][i]
        sharper = wrong < student if advantage > 0 else wrong > student
        assert bool(sharper) == bool(view.panels[1].weight[i] > view.panels[0].weight[i])
        expected = "Proposition 1: sharper." if sharper else "Proposition 1: not sharper."
        expect(shown.page.locator(".proposition")).to_contain_text(expected)
        shown.page.keyboard.press("ArrowRight")


def test_hostile_text_is_shown_literally_and_does_nothing(opened):
    view = Heatmap(
        made_up.tokens(made_up.HOSTILE), 1.0, title="</title><script>window.__xss=1</script>", caption="<b>&amp;</b>"
    )
    shown = opened(view)
    for i, piece in enumerate(view.tokens.display):
        shown.token(i).hover()
        assert shown.token(i).text_content() == "".join(part.text for part in piece.parts)
    assert shown.token(0).text_content() == "<script>window.__xss=1</script>"
    assert shown.page.title() == view.title
    assert shown.page.locator(".caption").text_content() == view.caption
    assert shown.page.evaluate("window.__xss") is None
    assert shown.page.locator("section.credence :is(script, img, style)").count() == 0
    assert [url for url in shown.left if not url.startswith("file:")] == []


def test_the_page_runs_no_script_but_its_own(opened):
    shown = opened(made_up.heatmap(5))
    shown.page.evaluate("document.body.append(Object.assign(document.createElement('i'), {id: 'probe'}))")
    allowed = shown.page.locator("meta[http-equiv]").get_attribute("content")
    assert re.search(r"default-src 'none'; script-src 'sha256-[\w+/=]+';", allowed)
    assert shown.page.evaluate("Object.keys(window).filter(name => /heatmap|mount|credence/i.test(name))") == []


def test_a_picture_travels_in_the_page(opened):
    from io import BytesIO

    from PIL import Image

    buffer = BytesIO()
    Image.new("RGB", (7, 5), "red").save(buffer, "PNG")
    shown = opened(made_up.heatmap(5), image=buffer.getvalue())
    assert shown.page.locator("img").evaluate("image => image.naturalWidth") == 7


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_page_follows_the_theme_and_can_be_read_in_it(opened, theme):
    shown = opened(made_up.heatmap(60), theme)
    expect(shown.page.locator("section.credence")).to_have_attribute("data-theme", theme)
    texts = ".rate, .note, .inspector p, .legend, .views button, .trained, .cues, .ends span, option"
    contrast = shown.page.locator("section.credence").evaluate(
        """(root, texts) => {
          const canvas = new OffscreenCanvas(1, 1).getContext("2d", {willReadFrequently: true});
          const channels = (color) => {
            canvas.clearRect(0, 0, 1, 1);
            canvas.fillStyle = color;
            canvas.fillRect(0, 0, 1, 1);
            return [...canvas.getImageData(0, 0, 1, 1).data];
          };
          const light = (rgb) => rgb.slice(0, 3).map((c) => c / 255)
            .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
            .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
          const behind = (node) => {
            for (; node; node = node.parentElement) {
              const found = channels(getComputedStyle(node).backgroundColor);
              if (found[3] > 250) return found;
            }
            return [255, 255, 255];
          };
          return [...root.querySelectorAll(texts)].map((node) => {
            const pair = [light(channels(getComputedStyle(node).color)), light(behind(node))].sort((a, b) => a - b);
            return [(pair[1] + 0.05) / (pair[0] + 0.05), node.className || node.tagName];
          });
        }""",
        texts,
    )
    assert [found for found in contrast if found[0] < 4.5] == []


def test_edge_states_are_sentences(opened):
    view = made_up.heatmap(30)
    nothing = np.full(30, np.nan, np.float32)
    shown = opened(replace(view, advantage=0.0, tokens=replace(view.tokens, log_p_wrong=nothing)))
    expect(shown.page.locator(".notice")).to_have_text("A = 0: no gradient from this rollout, whatever its tokens.")
    expect(shown.page.locator(".note").nth(1)).to_contain_text("no teacher read this rollout with r⁻")
    shown.token(3).hover()
    assert np.isnan(shown.value("right weight"))
    shown.page.locator("select[data-side=right]").select_option("opsd")
    expect(shown.page.locator(".note").nth(1)).to_contain_text("not a weight")
    empty = opened(Heatmap(made_up.tokens([]), 1.0))
    expect(empty.page.locator(".notice")).to_have_text("This rollout has no recorded tokens.")


def test_a_slider_is_painted_within_its_budget_at_2048_tokens(opened):
    shown = opened(made_up.heatmap(2048))
    slider = shown.page.locator("[data-slider=eps]").element_handle()
    times = [shown.page.evaluate(SECOND_FRAME, [slider, 0.2 + 0.05 * (n % 9)]) for n in range(13)]
    assert median(times[1:]) <= 120, times


def test_the_overview_goes_anywhere_in_8192_tokens(opened):
    shown = opened(made_up.heatmap(8192))
    assert len(shown.classes(1)) == 8192
    strips = shown.page.locator(".strips")
    box = strips.bounding_box()
    strips.click(position={"x": box["width"] * 0.75, "y": box["height"] / 2})
    in_sight = """() => {
      const [box, found] = [document.querySelector(".scroller"), []].map((x) => x.getBoundingClientRect?.() ?? x);
      for (const span of document.querySelectorAll(".body span.t")) {
        const { top, height } = span.getBoundingClientRect();
        if (height && top > box.top + 60 && top < box.bottom) found.push(Number(span.dataset.i));
      }
      return found;
    }"""
    expect(shown.page.locator("span.t[tabindex]").first).to_be_in_viewport()
    indices = shown.page.evaluate(in_sight)
    assert min(abs(i - 0.75 * 8192) for i in indices) < 8192 / 160


def test_a_rerun_keeps_what_is_built_and_takes_over_what_it_changed(opened):
    # the module alone in an empty page, mounted again and again as Streamlit does at every rerun
    page = opened(made_up.heatmap(40)).page
    page.goto("about:blank")
    outcome = page.evaluate(
        """async ([module, payload]) => {
          const { default: mount } = await import(`data:text/javascript;charset=utf-8,${encodeURIComponent(module)}`);
          const parentElement = document.createElement("div");
          document.body.append(parentElement);
          const sent = [];
          const render = (state) => mount({
            data: {...payload, state}, parentElement, setStateValue: (name, value) => sent.push([name, value]),
          });
          const remove = render(payload.state);
          const first = parentElement.querySelector("span.t");
          const slider = parentElement.querySelector("[data-slider=eps]");
          const drag = (value) => { slider.value = value; slider.dispatchEvent(new Event("input")); };
          const release = () => slider.dispatchEvent(new Event("change"));
          drag(0.3);
          const unreleased = sent.length;
          release();
          drag(0.7);
          render({...payload.state, eps: 0.3});
          const afterEcho = slider.value;
          release();
          render({...payload.state, eps: 0.7});
          render({...payload.state, eps: 0.9, token: 5});
          const answer = {
            unreleased, sent, afterEcho, adopted: slider.value, same: first === parentElement.querySelector("span.t"),
            pinned: parentElement.querySelectorAll("span.t[data-pin]").length,
          };
          remove();
          return {...answer, left: parentElement.childElementCount};
        }""",
        [SCRIPT, json.loads(json.dumps(made_up.heatmap(40).payload()))],
    )
    assert outcome["unreleased"] == 0, "nothing is sent while a slider is dragged"
    assert [(name, value["eps"]) for name, value in outcome["sent"]] == [("state", 0.3), ("state", 0.7)]
    assert set(outcome["sent"][0][1]) == {"eps", "lam", "view", "left", "right", "token", "callouts"}
    assert outcome["afterEcho"] == "0.7", "an answer to an earlier choice does not undo a later one"
    assert (outcome["adopted"], outcome["pinned"], outcome["same"]) == ("0.9", 2, True)
    assert outcome["left"] == 0, "what was mounted can be taken away"


def test_the_pdf_is_a_pdf(tmp_path):
    chromium = find_chromium()
    if chromium is None:
        if shutil.which("apt-get") and os.geteuid() == 0:
            pytest.fail("there is no Chromium although apt-get could install it: run `make setup`")
        pytest.skip("there is no Chromium to print with")
    assert pdf_of(page_html(made_up.heatmap(60)), chromium).startswith(b"%PDF")


def test_a_browser_that_cannot_print_is_an_error_of_one_line(tmp_path):
    with pytest.raises(InputError, match="cannot be started") as missing:
        pdf_of("<p>", tmp_path / "no-browser")
    broken = tmp_path / "browser"
    broken.write_text("#!/bin/sh\necho no display >&2\nexit 3\n")
    broken.chmod(0o755)
    with pytest.raises(InputError, match=r"ended with 3 \(no display\)") as failed:
        pdf_of("<p>", broken)
    assert all("\n" not in str(error.value) for error in (missing, failed))
