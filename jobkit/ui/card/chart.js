// Charts of metrics, of one job or of several: one for each name, with its lines over the steps. assets.py puts it in front
// of card.js and batch.js. A line is `{label, steps, values}`; a value that is no number (NaN, infinity) is a gap.

/** Charts that are shown before the others are asked for. */
const CHARTS_FIRST = 12;

/** A number as short as an axis needs it. */
function axis(value) {
  const size = Math.abs(value);
  return size && (size >= 1e6 || size < 1e-3) ? value.toExponential(2).replace(/\.?0+e/, "e") : String(Number(value.toPrecision(4)));
}

/** Parts of a metric's name that say of which data it is: `val` of `val/loss`, `validation_0` of `validation_0/auc`. */
const SPLIT = /^(train|training|val|valid|validation|test|testing|eval|evaluation|dev|holdout)([ _-]?\d+)?$/i;

/** `train/loss` and `val/loss` share the chart "loss", `Loss/train` and `Loss/test` share "Loss"; see `charts_of` in curves.py. */
function chartsOf(curves) {
  const found = new Map(), charts = new Map(), put = (map, title, lines) => map.set(title, [...(map.get(title) || []), ...lines]);
  for (const [name, line] of curves) {
    const parts = name.split("/"), place = parts.findIndex((part) => SPLIT.test(part));
    const rest = place < 0 ? "" : parts.filter((_, i) => i !== place).join("/");
    put(found, rest || name, [{name, label: rest ? parts[place] : name, ...line}]);
  }
  for (const [title, lines] of found) put(charts, lines.length > 1 ? title : lines[0].name, lines);
  return charts;
}

class Chart {
  constructor(title) {
    this.title = h("h5", {text: title, title});
    this.at = h("span", {class: "muted"});
    this.log = h("button", {type: "button", class: "log", hidden: true, text: "log", title: "Logarithmic axis", onclick: () => { this.isLinear = !this.isLinear; this.show(this.lines); }});
    this.keys = h("div", {class: "keys"});
    this.picture = svg("svg", {viewBox: "0 0 1000 100", preserveAspectRatio: "none", role: "img"});
    [this.top, this.bottom, this.first, this.last] = ["top", "bottom", "first", "last"].map((cls) => h("span", {class: `tick ${cls}`}));
    this.mark = h("i", {class: "mark", hidden: true});
    this.plot = h("div", {class: "area", onpointermove: (event) => this.point(event), onpointerleave: () => this.leave()}, this.picture, this.mark);
    this.el = h("figure", {class: "chart"}, h("figcaption", null, this.title, this.log, this.keys, this.at), h("div", {class: "scale"}, this.top, this.bottom), h("div", {class: "frame"}, this.plot), this.first, this.last);
  }

  show(lines) {
    this.lines = lines;
    let [x0, x1, y0, y1] = [Infinity, -Infinity, Infinity, -Infinity];
    for (const {steps, values} of lines) {
      for (let i = 0; i < steps.length; i++) {
        if (steps[i] < x0) x0 = steps[i];
        if (steps[i] > x1) x1 = steps[i];
        if (!Number.isFinite(values[i])) continue;
        if (values[i] < y0) y0 = values[i];
        if (values[i] > y1) y1 = values[i];
      }
    }
    const isEmpty = y0 > y1, isWide = y0 > 0 && y1 / y0 >= 100, isLog = isWide && !this.isLinear, of = isLog ? Math.log : Number;  // two decades or more
    const pad = isEmpty ? 1 : (of(y1) - of(y0) || Math.abs(y1) || 1) * 0.06, low = isEmpty ? 0 : of(y0) - pad, high = isEmpty ? 1 : of(y1) + pad;
    this.log.hidden = !isWide;
    this.log.setAttribute("aria-pressed", String(isLog));
    [this.x0, this.x1] = [x0, x1];
    const x = (step) => (x1 > x0 ? (1000 * (step - x0)) / (x1 - x0) : 500).toFixed(1);
    const y = (value) => (100 - (100 * (of(value) - low)) / (high - low)).toFixed(2);
    put(this.top, isEmpty ? "" : axis(y1));
    put(this.bottom, isEmpty || y0 === y1 ? "" : axis(y0));
    put(this.first, x1 > x0 ? axis(x0) : "");
    put(this.last, Number.isFinite(x1) ? `step ${axis(x1)}` : "");
    const shapes = lines.map(({steps, values}, i) => {
      let d = "", isDown = false, end = "";
      for (let j = 0; j < steps.length; j++) {
        if (!Number.isFinite(values[j])) { isDown = false; continue; }
        const place = `${x(steps[j])} ${y(values[j])}`;
        d += `${isDown ? "L" : "M"}${place}`;
        // A point between two gaps is a dot.
        if (!isDown && !Number.isFinite(values[j + 1])) d += "h0";
        isDown = true;
        end = place;
      }
      return svg("g", {style: `color:var(--jk-series-${(i % 8) + 1})`}, svg("path", {d, class: "line"}), end && lines.length <= 8 && svg("path", {d: `M${end}h0`, class: "end"}));
    });
    this.picture.replaceChildren(...shapes);
    this.picture.setAttribute("aria-label", lines.map(({label, values}) => `${label}: ${said(values.at(-1))}`).slice(0, 8).join(", "));
    if (this.held == null) this.tell(); else this.hold(this.held);
  }

  /** The values at a step, or the newest ones. */
  tell(step = null) {
    const {lines} = this, many = lines.length > 1;
    put(this.at, step == null ? "" : `step ${axis(step)}`);
    const shown = lines.slice(0, 8).map(({label, steps, values}, i) => {
      const j = step == null ? values.length - 1 : nearest(steps, step);
      return [many ? label : "", said(values[j]), i];
    });
    if (!isNew(this.keys, [shown, lines.length])) return;
    this.keys.replaceChildren(...shown.map(([label, value, i]) => h("span", {title: label || false}, many && h("i", {style: `background:var(--jk-series-${i + 1})`}), label && h("span", {class: "muted", text: label}), h("b", {text: value}))),
      ...(lines.length > 8 ? [h("span", {class: "muted", text: `and ${number(lines.length - 8)} more`})] : []));
  }

  point(event) {
    const box = this.plot.getBoundingClientRect();
    if (this.x1 > this.x0 && box.width) this.hold(Math.min(1, Math.max(0, (event.clientX - box.left) / box.width)));
  }

  hold(part) {
    this.held = part;
    const steps = this.lines[0].steps, step = steps[nearest(steps, this.x0 + part * (this.x1 - this.x0))];
    this.mark.hidden = false;
    this.mark.style.left = `${(100 * (step - this.x0)) / (this.x1 - this.x0)}%`;
    this.tell(step);
  }

  leave() {
    this.held = null;
    this.mark.hidden = true;
    this.tell();
  }
}

const said = (value) => (Number.isFinite(value) ? axis(value) : value == null ? "NaN" : String(value));

/** The place of the step that is nearest; steps ascend, or any of them is as good. */
function nearest(steps, step) {
  let low = 0, high = steps.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (steps[middle] < step) low = middle + 1; else high = middle;
  }
  return low > 0 && step - steps[low - 1] < steps[low] - step ? low - 1 : low;
}

/** The section with all charts. */
class Charts {
  constructor() {
    this.known = new Map();
    this.count = h("span", {class: "muted"});
    this.more = h("button", {class: "btn quiet small", hidden: true, onclick: () => { this.isAll = true; this.show(this.charts); }});
    this.box = h("div", {class: "charts"});
    this.root = h("section", {class: "metrics", "aria-label": "Metrics", hidden: true}, h("header", {class: "strip"}, h("h4", {text: "Metrics"}), this.count, h("span", {class: "spring"}), this.more), this.box);
  }

  /** `charts`: the lines of each chart, by its title. */
  show(charts) {
    this.charts = charts;
    this.root.hidden = !charts.size;
    const titles = [...charts.keys()], shown = this.isAll ? titles : titles.slice(0, CHARTS_FIRST);
    put(this.count, titles.length > 1 ? number(titles.length) : "");
    this.more.hidden = shown.length === titles.length;
    put(this.more, `Show all ${number(titles.length)}`);
    this.box.dataset.few = String(shown.length === 1);
    for (const [title, chart] of this.known) if (!shown.includes(title)) { chart.el.remove(); this.known.delete(title); }
    shown.forEach((title, i) => {
      let chart = this.known.get(title);
      if (!chart) this.known.set(title, (chart = new Chart(title)));
      if (this.box.children[i] !== chart.el) this.box.insertBefore(chart.el, this.box.children[i] || null);
      chart.show(charts.get(title));
    });
  }
}
