/* The token heatmap: two linked panels over one response, repainted in the browser when ε_w or λ move.
 *
 * Everything a model wrote enters the page as a text node. The maths is core/credit.py's, in its float32; the tests
 * compare the two. Colours are 21 classes, so moving a slider only renames the classes of tokens that change colour.
 */

const BINS = 21;
const MIDDLE = 10;
const HATCHED = -1;
const EXPONENT_LIMIT = 20;
const BLOCK = 128;
const LONGEST_BLOCK = 1024;
const BUCKETS = 160;
const SHORT = 160;
const VIEWS = { weight: "weight w", delta: "raw Δ", advantage: "advantage Â", difference: "difference" };
const STATE_KEYS = ["eps", "lam", "view", "left", "right", "token", "callouts"];
const SIDES = ["left", "right"];
const float32 = Math.fround;

const heatmaps = new WeakMap();

export default function mount(component) {
  const { data, parentElement } = component;
  let heatmap = heatmaps.get(parentElement);
  if (heatmap?.id === data.id) {
    heatmap.receive(component);
  } else {
    heatmap?.remove();
    heatmap = new Heatmap(component);
    heatmaps.set(parentElement, heatmap);
  }
  return () => {
    heatmaps.get(parentElement)?.remove();
    heatmaps.delete(parentElement);
  };
}

/* ---- credit: what core/credit.py computes ---- */

const column = (values) => Float32Array.from(values, (x) => (x === null ? NaN : x));

/** What does not depend on ε_w or λ: Δ_t and w_t of a method (Eq. 4, 5, 7). */
function evidenceOf(method, data) {
  const count = data.position.length;
  if (data.missing[method]) return { method, missing: data.missing[method] };
  if (method === "grpo") return { method, weight: new Float32Array(count).fill(1) };
  const { log_p_student: student, log_p_correct: correct, log_p_wrong: wrong } = data.evidence;
  const against = method === "cepo" ? wrong : student;
  const delta = Float32Array.from(correct, (x, i) => x - against[i]);
  if (method !== "rlsd" && method !== "cepo") return { method, delta };
  const sign = Math.sign(data.advantage);
  const weight = delta.map((d) => Math.exp(sign * Math.min(Math.max(d, -EXPONENT_LIMIT), EXPONENT_LIMIT)));
  return { method, delta, weight };
}

/** Clip flags, weights as they act and token advantages at this ε_w and λ (Eq. 4, 7). */
function creditOf(evidence, data, eps, lam) {
  const { weight, delta } = evidence;
  if (!weight) return evidence;
  const low = float32(1 - eps);
  const high = float32(1 + eps);
  const clipped = Int8Array.from(weight, (w) => (w > high) - (w < low));
  const acting = weight.map((w) => Math.min(Math.max(w, low), high));
  const needsNone = !delta || lam === 0 || data.advantage === 0;
  const advantage = acting.map((w) => data.advantage * (needsNone ? 1 : 1 - lam + lam * w));
  return { ...evidence, clipped, acting, advantage };
}

/** Where each token stands on the colour scale, from −1 to 1; null where the panel has no numbers. */
function sharesOf(panel, panels, data, { view, eps }) {
  const count = data.position.length;
  if (view === "difference") {
    const [left, right] = panels.map((each) => each.acting);
    return left && right ? Float64Array.from(right, (w, i) => (w - left[i]) / (2 * eps)) : null;
  }
  if (view === "advantage" && panel.advantage) {
    const end = Math.abs(data.advantage) * (1 + eps);
    return Float64Array.from(panel.advantage, (a) => (end ? a / end : 0));
  }
  if (view === "weight" && panel.acting) {
    const [below, above] = [-Math.log(1 - eps), Math.log(1 + eps)];
    return Float64Array.from(panel.acting, (w) => Math.log(w) / (w < 1 ? below : above));
  }
  if (!panel.delta) return panel.missing ? null : new Float64Array(count);
  const end = Math.log1p(deltaScale(panels));
  return Float64Array.from(panel.delta, (d) => (end ? (Math.sign(d) * Math.log1p(Math.abs(d))) / end : d));
}

/** Largest finite |Δ| of both panels: where the colours of Δ end. */
function deltaScale(panels) {
  let largest = 0;
  for (const { delta } of panels) delta?.forEach((d) => (largest = Math.max(largest, Math.abs(d) || 0)));
  return largest;
}

function binOf(share) {
  if (!Number.isFinite(share)) return HATCHED;
  return Math.floor(MIDDLE * Math.min(Math.max(share, -1), 1) + MIDDLE + 0.5);
}

/* ---- small helpers ---- */

function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

const isNumber = (x) => x !== null && x !== undefined && Number.isFinite(x);

function shown(x, digits = 3) {
  if (!isNumber(x)) return "–";
  const fits = x === 0 || (Math.abs(x) >= 0.5 * 10 ** -digits && Math.abs(x) < 1e4);
  const text = fits ? x.toFixed(digits) : x.toExponential(1);
  return text.replaceAll("-", "−");
}

const percent = (share) => `${(100 * share).toFixed(1)} %`;

/** A number as read, with all its digits beside it for whoever reads the page by program. */
function number(x, digits) {
  return isNumber(x) ? element("data", { value: String(x) }, shown(x, digits)) : "–";
}

const circled = (n) => (n <= 20 ? String.fromCodePoint(0x245f + n) : `(${n})`);
const canonical = (state) => JSON.stringify(STATE_KEYS.map((key) => state[key]));

function luminance(color) {
  const context = document.createElement("canvas").getContext("2d");
  context.fillStyle = color;
  context.fillRect(0, 0, 1, 1);
  const [red, green, blue] = context.getImageData(0, 0, 1, 1).data;
  return (0.2126 * red + 0.7152 * green + 0.0722 * blue) / 255;
}

/* ---- the component ---- */

class Heatmap {
  constructor({ data, parentElement, setStateValue }) {
    this.id = data.id;
    const evidence = Object.fromEntries(Object.entries(data.evidence).map(([name, values]) => [name, column(values)]));
    const advantage = data.advantage === null ? NaN : float32(data.advantage);
    this.data = { ...data, evidence, advantage };
    this.count = data.position.length;
    this.state = { ...data.state };
    this.received = canonical(data.state);
    this.sent = [];
    this.setStateValue = setStateValue;
    this.hovered = this.opened = null;
    this.cursor = data.state.token ?? 0;
    this.build();
    parentElement.append(this.root);
    this.scheme = matchMedia("(prefers-color-scheme: dark)");
    this.follow = () => this.dress();
    this.scheme.addEventListener("change", this.follow);
    this.dress();
    this.refresh();
    if (this.state.token !== null) this.center(this.state.token);
  }

  remove() {
    this.scheme.removeEventListener("change", this.follow);
    this.resized.disconnect();
    this.root.remove();
  }

  /** A rerun of the page: take over what it changed, but not an echo of what was sent from here. */
  receive({ data, setStateValue }) {
    this.setStateValue = setStateValue;
    this.dress();
    const incoming = canonical(data.state);
    const echo = this.sent.indexOf(incoming);
    if (echo >= 0) this.sent.splice(0, echo + 1);
    else if (incoming !== this.received) this.apply(data.state);
    this.received = incoming;
  }

  apply(state) {
    const moved = state.token !== this.state.token && state.token !== null;
    this.state = { ...state };
    if (moved) this.cursor = state.token;
    this.refresh();
    if (moved) this.center(state.token);
  }

  /** One value for everything, so that the page reruns once. */
  send() {
    const state = canonical(this.state);
    if (state === (this.sent.at(-1) ?? this.received)) return;
    this.sent.push(state);
    this.setStateValue("state", { ...this.state, callouts: this.state.callouts.map((each) => [...each]) });
  }

  change(part) {
    Object.assign(this.state, part);
    this.refresh();
    this.send();
  }

  dress() {
    const background = getComputedStyle(this.root).getPropertyValue("--st-background-color").trim();
    const asked = document.documentElement.dataset.theme;
    const dark = background ? luminance(background) < 0.4 : asked ? asked === "dark" : this.scheme.matches;
    this.root.dataset.theme = dark ? "dark" : "light";
  }

  /* -- building, once a rollout -- */

  build() {
    this.root = element("section", { class: "credence", "aria-label": "Token heatmap" });
    this.root.toggleAttribute("data-short", this.count <= SHORT);
    this.notice = element("p", { class: "notice" });
    this.scroller = element("div", { class: "scroller" }, this.buildHeads(), this.buildBodies());
    this.legend = element("div", { class: "legend" });
    this.inspector = element("div", { class: "inspector", role: "status", "aria-live": "polite" });
    const controls = this.buildControls();
    this.root.append(controls, this.notice, this.buildStrips(), this.scroller, this.inspector, this.legend);
    this.scroller.addEventListener("scroll", () => this.frameStrip(), { passive: true });
    this.resized = new ResizeObserver(() => this.frameStrip());
    this.resized.observe(this.scroller);
    this.root.addEventListener("pointerenter", () => this.dress());
  }

  buildControls() {
    const views = element("div", { class: "views", role: "group", "aria-label": "Colour by" });
    this.viewButtons = Object.entries(VIEWS).map(([view, label]) => {
      const button = element("button", { type: "button", "data-view": view }, label);
      button.addEventListener("click", () => this.change({ view }));
      return button;
    });
    views.append(...this.viewButtons);
    this.sliders = {};
    const sliders = [this.buildSlider("eps", "ε", "evidence clip range ε_w", 0.01, 0.99)];
    sliders.push(this.buildSlider("lam", "λ", "share of the evidence λ", 0, 1));
    this.trained = element("button", { type: "button", class: "trained" });
    this.trained.addEventListener("click", () => {
      const { eps, lam } = this.data.trained;
      this.change({ eps: eps ?? this.state.eps, lam: lam ?? this.state.lam });
    });
    return element("div", { class: "controls" }, views, ...sliders, this.trained);
  }

  buildSlider(name, symbol, title, min, max) {
    const input = element("input", { type: "range", min, max, step: 0.01, "aria-label": title, "data-slider": name });
    const output = element("span", { class: "value" });
    input.addEventListener("input", () => {
      this.state[name] = Number(input.value);
      this.repaint();
    });
    input.addEventListener("change", () => this.send());
    this.sliders[name] = { input, output };
    return element("label", { class: "slider", title }, element("i", {}, symbol), input, output);
  }

  buildHeads() {
    this.heads = SIDES.map((side) => {
      const select = element("select", { "aria-label": `Method of the ${side} panel`, "data-side": side });
      for (const [method, label] of Object.entries(this.data.labels)) {
        select.append(element("option", { value: method }, label));
      }
      select.addEventListener("change", () => this.change({ [side]: select.value }));
      const rate = element("span", { class: "rate" });
      const note = element("p", { class: "note" });
      return { select, rate, note, node: element("header", {}, element("div", {}, select, rate), note) };
    });
    this.headRow = element("div", { class: "heads" }, ...this.heads.map((head) => head.node));
    this.comparison = element("h3", { class: "comparison" });
    return element("div", { class: "top" }, this.headRow, this.comparison);
  }

  buildBodies() {
    this.spans = [[], []];
    this.painted = SIDES.map(() => new Array(this.count).fill(""));
    this.bodies = SIDES.map((_, side) => {
      const body = element("div", { class: "body", role: "group" });
      body.append(...this.buildBlocks(this.spans[side]));
      return body;
    });
    const row = element("div", { class: "bodies" }, ...this.bodies);
    row.addEventListener("pointerover", (event) => this.keyed || this.hover(this.tokenOf(event)));
    row.addEventListener("pointermove", (event) => this.keyed && this.unkey(event));
    row.addEventListener("pointerleave", () => this.hover(null));
    row.addEventListener("click", (event) => this.click(event));
    row.addEventListener("keydown", (event) => this.key(event));
    row.addEventListener("focusin", (event) => this.tokenOf(event) !== null && this.inspect());
    return row;
  }

  /** Blocks end at a newline: a block's end breaks the line, and must not break one that the model did not. */
  buildBlocks(spans) {
    const blocks = [];
    let block = null;
    let characters = 0;
    let lines = 1;
    const close = () => {
      // what a block not yet drawn is taken to measure
      const rows = Math.max(lines, Math.ceil(characters / 60));
      block.style.containIntrinsicSize = `auto none auto ${rows * 1.75}em`;
      block = null;
    };
    this.data.pieces.forEach((parts, i) => {
      if (!block) {
        block = element("div", { class: "block" });
        blocks.push(block);
        characters = lines = 0;
      }
      const span = element("span", { class: "t" });
      span.dataset.i = i;
      if (this.data.classes[i] === "special") span.dataset.special = "";
      for (const [text, isMarker] of parts) {
        span.append(isMarker ? element("i", {}, text) : text);
        characters += text.length;
      }
      spans.push(span);
      block.append(span);
      const breaks = parts.length > 0 && parts.at(-1)[0].endsWith("\n");
      lines += breaks;
      const size = block.childElementCount;
      if ((breaks && size >= BLOCK) || size >= LONGEST_BLOCK) close();
    });
    if (block) close();
    return blocks;
  }

  buildStrips() {
    this.buckets = Math.min(BUCKETS, this.count);
    this.strips = SIDES.map(() => {
      const strip = element("div", { class: "strip" });
      for (let bucket = 0; bucket < this.buckets; bucket++) strip.append(element("span"));
      return strip;
    });
    this.frame = element("div", { class: "frame" });
    const strips = element("div", { class: "strips", "aria-hidden": "true" }, ...this.strips, this.frame);
    strips.title = "the whole response; click to go there";
    strips.addEventListener("click", (event) => {
      const { left, width } = strips.getBoundingClientRect();
      const bucket = Math.floor((this.buckets * (event.clientX - left)) / width);
      this.moveTo(this.strongest(Math.min(Math.max(bucket, 0), this.buckets - 1)), { focus: false });
      this.center(this.cursor);
    });
    return strips;
  }

  /* -- painting -- */

  /** After a change of method, view, pin or callouts. */
  refresh() {
    const { left, right, view } = this.state;
    this.evidence = [left, right].map((method) => evidenceOf(method, this.data));
    SIDES.forEach((side, s) => {
      const { select, note } = this.heads[s];
      select.value = this.state[side];
      note.textContent = this.data.missing[this.state[side]] || this.data.notes[this.state[side]] || "";
      const label = this.data.labels[this.state[side]];
      this.bodies[s].setAttribute("aria-label", `${label}: tokens of the response, arrow keys move`);
      this.bodies[s].dataset.label = label;
    });
    for (const button of this.viewButtons) button.setAttribute("aria-pressed", String(button.dataset.view === view));
    this.root.dataset.view = view;
    this.drawCallouts();
    this.repaint();
    this.point();
  }

  /** After a slider moved, too: only tokens whose class changes are touched. */
  repaint() {
    const { eps, lam, view } = this.state;
    this.panels = this.evidence.map((each) => creditOf(each, this.data, eps, lam));
    this.bins = this.panels.map((panel) => {
      const shares = sharesOf(panel, this.panels, this.data, this.state);
      return shares && Int8Array.from(shares, binOf);
    });
    const unclear = view === "difference";
    this.panels.forEach((panel, side) => {
      const painted = this.painted[side];
      const bins = this.bins[side];
      for (let i = 0; i < this.count; i++) {
        const bin = bins ? (bins[i] === HATCHED ? " hatched" : ` b${bins[i]}`) : "";
        const name = `t${bin}${bins && !unclear && panel.clipped?.[i] ? " clipped" : ""}`;
        if (painted[i] !== name) this.spans[side][i].className = painted[i] = name;
      }
    });
    this.paintStrips();
    this.write();
  }

  strongest(bucket, side = this.state.view === "difference" || !this.bins[0] ? 1 : 0) {
    const bins = this.bins[side];
    const first = Math.floor((bucket * this.count) / this.buckets);
    const end = Math.floor(((bucket + 1) * this.count) / this.buckets);
    let best = first;
    for (let i = first + 1; bins && i < end; i++) {
      if (Math.abs(bins[i] - MIDDLE) > Math.abs(bins[best] - MIDDLE) && bins[i] !== HATCHED) best = i;
    }
    return best;
  }

  paintStrips() {
    this.strips.forEach((strip, side) => {
      const bins = this.bins[side];
      for (let bucket = 0; bucket < this.buckets; bucket++) {
        const bin = bins ? bins[this.strongest(bucket, side)] : MIDDLE;
        const name = bin === HATCHED ? "hatched" : `b${bin}`;
        const cell = strip.children[bucket];
        if (cell.className !== name) cell.className = name;
      }
    });
  }

  frameStrip() {
    const { scrollTop, scrollHeight, clientHeight } = this.scroller;
    this.frame.hidden = scrollHeight <= clientHeight + 1;
    this.frame.style.left = `${(100 * scrollTop) / scrollHeight}%`;
    this.frame.style.width = `${(100 * clientHeight) / scrollHeight}%`;
  }

  /** Everything that is words and numbers. */
  write() {
    const { eps, lam, view } = this.state;
    for (const [name, { input, output }] of Object.entries(this.sliders)) {
      if (Number(input.value) !== this.state[name]) input.value = this.state[name];
      output.textContent = shown(this.state[name], 2);
    }
    this.writeTrained();
    this.panels.forEach((panel, side) => (this.heads[side].rate.textContent = this.rate(panel)));
    const { labels, missing } = this.data;
    const [left, right] = [labels[this.state.left], labels[this.state.right]];
    const reason = this.panels.map((p) => (p.acting ? "" : p.missing || `${labels[p.method]} gives no weights.`));
    const difference = reason[0] || reason[1] ? `No difference to show. ${reason[0] || reason[1]}` : "";
    this.comparison.textContent = view === "difference" ? difference || `${right} − ${left}, clipped weights` : "";
    const { empty, zero, unused } = this.data.notices;
    this.notice.textContent = !this.count ? empty : this.data.advantage === 0 ? zero : lam === 0 ? unused : "";
    this.writeLegend(eps, view);
    this.inspect();
  }

  writeTrained() {
    const { eps, lam } = this.data.trained;
    const parts = [["ε", eps], ["λ", lam]].filter(([, x]) => x !== null).map(([name, x]) => `${name} ${shown(x, 2)}`);
    const near = (a, b) => a === null || Math.abs(a - b) < 1e-6;
    const same = near(eps, this.state.eps) && near(lam, this.state.lam);
    this.trained.hidden = parts.length === 0;
    this.trained.disabled = same;
    this.trained.dataset.departed = String(!same);
    this.trained.textContent = `${same ? "✓ as trained" : "↺ back to as trained"}: ${parts.join(", ")}`;
  }

  rate({ delta, weight, clipped }) {
    const numbers = weight && delta ? weight : delta;
    if (!numbers) return "";
    let [low, high, finite] = [0, 0, 0];
    numbers.forEach((x, i) => {
      if (!Number.isFinite(x)) return;
      finite++;
      if (clipped) [low, high] = [low + (clipped[i] < 0), high + (clipped[i] > 0)];
    });
    const gaps = this.count - finite;
    const text = [];
    if (clipped && finite) {
      const [all, below, above] = [low + high, low, high].map((n) => percent(n / finite));
      text.push(`clipped ${all} (↓ ${below} ↑ ${above})`);
    }
    if (gaps) text.push(`${gaps} ${gaps === 1 ? "token has" : "tokens have"} no finite number (hatched)`);
    return text.join(" · ");
  }

  writeLegend(eps, view) {
    const size = Math.abs(this.data.advantage) * (1 + eps);
    const reach = deltaScale(this.panels);
    const delta = [`−${shown(reach, 2)}`, "0", shown(reach, 2), "Δ in nats: orange against r⁺, blue for r⁺"];
    const scales = {
      weight: [shown(1 - eps, 2), "1", shown(1 + eps, 2), "weight, from 1−ε to 1+ε: orange less credit, blue more"],
      delta,
      advantage: [`−${shown(size, 2)}`, "0", shown(size, 2), "token advantage: orange blamed, blue credited"],
      difference: [`−${shown(2 * eps, 2)}`, "0", shown(2 * eps, 2), "weight, right minus left, from −2ε to 2ε"],
    };
    const alone = view === "delta" || view === "difference";
    const used = alone || this.panels.some((panel) => panel.acting) ? [view] : [];
    const matches = this.panels.some((panel) => panel.delta && !panel.weight);
    if (!used.length || (matches && !alone)) used.push("delta");
    const text = used.map((name) => scales[name].join("|")).join("\n");
    if (text === this.legendText) return;
    this.legendText = text;
    const cues = element("span", { class: "cues" });
    const clipped = element("span", { class: "t clipped" }, "dotted");
    const hatched = element("span", { class: "t hatched" }, "hatched");
    cues.append(clipped, " clipped weight · ", hatched, " no finite number · ", "shift-click two tokens: a callout");
    this.legend.replaceChildren(...used.map((name) => this.scale(...scales[name])), cues);
  }

  scale(low, middle, high, text) {
    const ramp = element("span", { class: "ramp", "aria-hidden": "true" });
    for (let bin = 0; bin < BINS; bin++) ramp.append(element("span", { class: `b${bin}` }));
    const ends = [low, middle, high].map((label) => element("span", {}, label));
    return element("div", { class: "scale" }, element("b", {}, text), ramp, element("div", { class: "ends" }, ...ends));
  }

  /* -- pointing -- */

  tokenOf(event) {
    const index = event.target.closest?.("span.t")?.dataset.i;
    return index === undefined ? null : Number(index);
  }

  mark(index, attribute, on) {
    if (index === null || index >= this.count) return;
    for (const spans of this.spans) spans[index].toggleAttribute(attribute, on);
  }

  hover(index) {
    if (index === this.hovered) return;
    this.mark(this.hovered, "data-on", false);
    this.hovered = index;
    this.mark(index, "data-on", true);
    this.inspect();
  }

  /** A pointer at rest says nothing while keys move the text below it; once it moves, it does again. */
  unkey(event) {
    this.keyed = event.movementX === 0 && event.movementY === 0;
    if (!this.keyed) this.hover(this.tokenOf(event));
  }

  click(event) {
    const chip = event.target.closest?.("button.callout");
    if (chip) {
      const kept = this.state.callouts.filter((_, n) => n !== Number(chip.dataset.n));
      this.change({ callouts: kept });
      return;
    }
    const index = this.tokenOf(event);
    if (index === null) return;
    this.side = Number(this.bodies[1].contains(event.target));
    this.moveTo(index);
    if (event.shiftKey) this.callout(index);
    else this.pin(index);
  }

  pin(index) {
    this.change({ token: this.state.token === index ? null : index });
  }

  /** The first of two tokens opens a region, the second closes it. */
  callout(index) {
    if (this.opened === null) {
      this.opened = index;
      this.mark(index, "data-opened", true);
      this.inspect();
      return;
    }
    const region = [Math.min(this.opened, index), Math.max(this.opened, index)];
    this.mark(this.opened, "data-opened", false);
    this.opened = null;
    this.change({ callouts: [...this.state.callouts, region] });
  }

  key(event) {
    const from = this.tokenOf(event);
    if (from === null) return;
    this.side = Number(this.bodies[1].contains(event.target));
    this.keyed = true;
    const moves = {
      ArrowLeft: () => from - 1,
      ArrowRight: () => from + 1,
      ArrowUp: () => this.neighbour(from, -1),
      ArrowDown: () => this.neighbour(from, 1),
      Home: () => 0,
      End: () => this.count - 1,
    };
    if (event.key in moves) this.moveTo(moves[event.key]());
    else if (event.key === "Escape") this.escape();
    else if (event.key !== "Enter" && event.key !== " ") return;
    else if (event.shiftKey) this.callout(from);
    else this.pin(from);
    event.preventDefault();
    event.stopPropagation();
  }

  escape() {
    this.mark(this.opened, "data-opened", false);
    this.opened = null;
    this.change({ token: null });
  }

  /** The token above or below, as the lines fall now. */
  neighbour(from, step) {
    const spans = this.spans[this.side];
    const start = spans[from].getBoundingClientRect();
    let best = from;
    let line = null;
    for (let i = from + step; i >= 0 && i < this.count; i += step) {
      const box = spans[i].getClientRects()[0];
      if (!box || Math.abs(box.top - start.top) < start.height / 2) continue;
      line ??= box.top;
      if (Math.abs(box.top - line) > start.height / 2) break;
      const distance = (j) => Math.abs(spans[j].getBoundingClientRect().left - start.left);
      if (best === from || distance(i) < distance(best)) best = i;
    }
    return best;
  }

  moveTo(index, { focus = true } = {}) {
    this.cursor = Math.min(Math.max(index, 0), Math.max(this.count - 1, 0));
    this.hover(null);
    this.point();
    if (focus) {
      const span = this.spans[this.side ?? 0][this.cursor];
      span.focus({ preventScroll: true });
      span.scrollIntoView({ block: "nearest", inline: "nearest" });
    }
    this.inspect();
  }

  /** One token a panel can be reached by Tab: the one where the arrow keys last were. */
  point() {
    if (this.pointed !== this.cursor) {
      // not otherwise: a token that loses its tab stop, even for a moment, loses the focus
      for (const name of ["tabindex", "role", "aria-pressed"]) {
        for (const spans of this.spans) spans[this.pointed]?.removeAttribute(name);
      }
    }
    this.mark(this.pinned ?? null, "data-pin", false);
    this.mark(this.pointed ?? null, "data-cursor", false);
    this.pinned = this.state.token;
    this.pointed = this.cursor;
    this.mark(this.pinned, "data-pin", true);
    this.mark(this.pointed, "data-cursor", true);
    for (const spans of this.spans) {
      const span = spans[this.pointed];
      span?.setAttribute("tabindex", "0");
      span?.setAttribute("role", "button");
      span?.setAttribute("aria-pressed", String(this.pointed === this.pinned));
    }
  }

  /** Twice, because blocks take their real height when they come into sight. */
  center(index) {
    const spans = this.spans[this.state.view === "difference" ? 1 : 0];
    const scroll = () => {
      if (!spans[index]?.isConnected) return;
      const box = this.scroller.getBoundingClientRect();
      const offset = spans[index].getBoundingClientRect().top - box.top - box.height / 2;
      this.scroller.scrollTop += offset;
    };
    requestAnimationFrame(() => {
      // whoever opened a token from below the heatmap wants to see it
      this.root.scrollIntoView({ block: "nearest" });
      scroll();
      requestAnimationFrame(scroll);
    });
  }

  drawCallouts() {
    for (const chip of this.scroller.querySelectorAll("button.callout")) chip.remove();
    for (const spans of this.spans) {
      for (const span of this.called ?? []) spans[span].removeAttribute("data-in");
    }
    this.called = [];
    this.state.callouts.forEach(([first, last], n) => {
      for (let i = first; i <= last; i++) this.called.push(i);
      for (const spans of this.spans) {
        const chip = element("button", { type: "button", class: "callout", "data-n": n }, circled(n + 1));
        chip.setAttribute("aria-label", `Remove callout ${n + 1}`);
        chip.title = "click to remove";
        spans[first]?.before(chip);
        for (let i = first; i <= last; i++) {
          const end = [i === first ? "first" : "", i === last ? "last" : ""].filter(Boolean).join(" ");
          spans[i].setAttribute("data-in", end);
        }
      }
    });
  }

  /* -- the inspector -- */

  inspect() {
    const focused = this.root.getRootNode().activeElement?.dataset?.i;
    const index = this.hovered ?? (focused === undefined ? this.state.token : Number(focused));
    if (index === null || index >= this.count) {
      if (this.inspected !== null) {
        this.inspected = null;
        const hint = "Point at a token, or move with the arrow keys, to read its numbers.";
        this.inspector.replaceChildren(element("p", { class: "hint" }, hint));
      }
      return;
    }
    const { eps, lam, left, right, token } = this.state;
    const inspected = JSON.stringify([index, eps, lam, left, right, token, this.opened]);
    if (inspected === this.inspected) return;
    this.inspected = inspected;
    this.inspector.replaceChildren(this.identity(index), this.facts(index), this.credits(index), this.words(index));
  }

  identity(i) {
    const piece = this.data.pieces[i].map(([text]) => text.replace("\n", "")).join("");
    const bin = this.bins[1] ?? this.bins[0];
    const chip = element("span", { class: `t ${bin && bin[i] !== HATCHED ? `b${bin[i]}` : ""}` }, piece);
    const pinned = this.state.token === i ? element("span", { class: "pinned" }, "pinned") : "";
    const place = element("b", {}, `#${this.data.position[i]}`);
    return element("div", { class: "identity" }, place, chip, element("span", {}, this.data.classes[i]), pinned);
  }

  facts(i) {
    const { log_p_student: student, log_p_correct: correct, log_p_wrong: wrong } = this.data.evidence;
    const { entropy, divergence } = this.data;
    const facts = [
      ["log P_S", "student", student[i]],
      ["log P_T⁺", "correct", correct[i]],
      ["log P_T⁻", "wrong", wrong[i]],
      ["entropy", "entropy", entropy[i]],
    ];
    if (isNumber(divergence[i])) facts.push(["D(P_T‖P_S)", "divergence", divergence[i]]);
    const list = element("dl");
    for (const [label, name, value] of facts) {
      list.append(element("div", { "data-fact": name }, element("dt", {}, label), element("dd", {}, number(value))));
    }
    return list;
  }

  credits(i) {
    const titles = { method: "method", delta: "Δ", weight: "w", acting: "acts as", advantage: "Â" };
    const heads = Object.entries(titles).map(([credit, text]) =>
      element("th", { scope: "col", "data-credit": credit }, text),
    );
    const head = element("tr", {}, ...heads);
    const rows = this.panels.map((panel, side) => {
      const cell = (name, ...content) => element("td", { "data-credit": name }, ...content);
      const flag = panel.clipped?.[i] ? ` (clipped ${panel.clipped[i] > 0 ? "↑" : "↓"})` : "";
      return element(
        "tr",
        { "data-side": SIDES[side] },
        element("th", { scope: "row" }, this.data.labels[panel.method]),
        cell("delta", number(panel.delta?.[i])),
        cell("weight", number(panel.weight?.[i])),
        cell("acting", number(panel.acting?.[i]), flag),
        cell("advantage", number(panel.advantage?.[i])),
      );
    });
    return element("table", {}, element("thead", {}, head), element("tbody", {}, ...rows));
  }

  words(i) {
    if (this.opened !== null) return element("p", {}, "Region open: shift-click its last token, Escape gives up.");
    return element("p", { class: "proposition" }, this.proposition(i));
  }

  /** Proposition 1: where CEPO weighs a token more than RLSD, before clipping. */
  proposition(i) {
    const [student, wrong] = [this.data.evidence.log_p_student[i], this.data.evidence.log_p_wrong[i]];
    const sign = Math.sign(this.data.advantage);
    if (!isNumber(student) || !isNumber(wrong)) return "Proposition 1 needs log P_S and log P_T⁻ of this token.";
    if (!sign) return "Proposition 1 says nothing where A = 0.";
    const order = wrong < student ? "P_T⁻ < P_S" : wrong > student ? "P_T⁻ > P_S" : "P_T⁻ = P_S";
    const more = sign > 0 ? wrong < student : wrong > student;
    const verdict = wrong === student ? "exactly as much as" : more ? "more than" : "less than";
    const name = sign > 0 ? "credits" : "blames";
    const conclusion = more ? "sharper" : "not sharper";
    return `Proposition 1: ${conclusion}. CEPO ${name} this token ${verdict} RLSD does before clipping, as ${order}.`;
  }
}
