// The timeline (timeline.py): fills the figures of timeline_plot.py and colours them. Texts come from the server once for
// all sessions; what is drawn of them, at which width, is decided here: narrow bars merge, running ones grow to "now".
// Nothing that is set here goes back to the server (`sync: false`).

const SPANS = {"15m": 900e3, "1h": 3600e3, "6h": 21600e3, "24h": 86400e3};
const RANGE_WORDS = {fit: "All", "15m": "15 min", "1h": "1 h", "6h": "6 h", "24h": "24 h"};
const OUTCOMES = {running: "Running", succeeded: "Done", failed: "Failed", cancelled: "Cancelled", retried: "Failed, tried again", lost: "Lost: its worker went silent", released: "Given back by its worker"};
const [LANE, CHROME, LANES, NARROW, JOINS, SHARED, SCHEDULED] = [24, 34, 60, 3, 40, 15, "scheduled"];

class TimelineHead {
  constructor(model, el, view) {
    this.model = model;
    this.document = view.model.document;
    this.jobs = new Map();  // id -> its attempts, oldest first
    this.due = [];
    this.number = this.skew = 0;
    this.shift = -new Date().getTimezoneOffset() * 60e3;  // Bokeh's axes show UTC: what they are given is local time
    this.hues = new Map();  // task -> number of its colour
    this.follows = true;
    this.shown = [];
    this.build();
    el.append(this.root);
    this.stops = [followTheme(this.root, () => this.paint()), everySecond(() => this.tick())];
    for (const [name, fn] of [["page", () => this.load()], ["delta", () => this.change()], ["series", () => this.chart()], ["selected", () => this.draw()], ["range", () => this.turn()]]) model.on(`change:${name}`, fn);
    for (const [target, name, fn] of [[document, "keydown", (event) => this.key(event)], [document, "pointermove", (event) => { this.pointer = event; if (this.over) this.hide(event); }]]) {
      target.addEventListener(name, fn, {passive: true});
      this.stops.push(() => target.removeEventListener(name, fn));
    }
    this.showRange();
    this.attach(200);
  }

  close() {
    this.stops.forEach((stop) => stop());
    clearTimeout(this.later);
    cancelAnimationFrame(this.frame);
  }

  build() {
    const n = (this.n = {});
    n.sum = h("p", {class: "sum", role: "status", text: "Reading…"});
    n.ranges = h("div", {class: "ranges", role: "radiogroup", "aria-label": "Range", onkeydown: (event) => this.walk(event)},
      Object.entries(RANGE_WORDS).map(([name, word]) => h("button", {role: "radio", "data-range": name, text: word, onclick: () => this.choose(name)})));
    n.now = h("button", {class: "btn small", text: "Back to now", hidden: true, onclick: () => { this.follows = true; this.turn(); }});
    n.zoom = h("div", {class: "zoom"}, [["−", "Zoom out", 2], ["+", "Zoom in", 0.5]].map(([text, title, by]) => h("button", {class: "btn small", text, title, "aria-label": title, onclick: () => this.zoom(by)})));
    n.legend = h("ul", {class: "legend", "aria-label": "Colours"});
    n.note = h("p", {class: "note", hidden: true});
    n.tip = h("div", {class: "tip", hidden: true, role: "status"});
    n.empty = h("div", {class: "nothing", hidden: true}, h("p", {class: "big", text: "Nothing has run yet"}), h("p", {class: "muted", text: "Each attempt of a job becomes a bar on its worker's line, from the moment at which it starts."}));
    this.root = h("section", {class: "jk jk-timeline", "aria-label": "Timeline"}, h("div", {class: "line"}, n.sum, h("span", {class: "spring"}), n.now, n.zoom, n.ranges), n.legend, n.note, n.empty, n.tip);
  }

  // -- the figures ---------------------------------------------------------------------------------------------------

  get(name) { return this.document.get_model_by_name(`${this.model.get("name_of")}-${name}`); }

  /** Once the figures are in the document, which may be later than this. */
  attach(tries) {
    this.all = this.get("all");
    if (!this.all) {
      if (tries) this.later = setTimeout(() => this.attach(tries - 1), 50);
      return;
    }
    this.sources = Object.fromEntries(["waits", "bars", "joins", "fails", "due", "now", "ends", "depth", "busy", "tasks-waited", "tasks-ran"].map((name) => [name, this.get(name)]));
    [this.x, this.y, this.lanes] = [this.get("x"), this.get("y"), this.get("lanes")];
    this.charts = Object.fromEntries(["ends", "depth", "busy", "tasks"].map((name) => [name, this.get(`chart-${name}`)]));
    const moved = () => { if (!this.moves) { this.follows = false; this.n.now.hidden = false; this.soon(); } };
    for (const side of ["start", "end"]) this.x.properties[side].change.connect(moved);
    this.lanes.on_event("tap", (event) => this.tap(event));
    this.lanes.on_event("mousemove", (event) => this.hover(event));
    this.lanes.on_event("mouseleave", () => this.leave());
    // Panel's Material page colours every figure by its own theme, when it finds one and when the theme changes.
    const repaint = () => { if (!this.paints) { clearTimeout(this.later); this.later = setTimeout(() => this.paint(), 0); } };
    for (const plot of [this.lanes, ...Object.values(this.charts)]) for (const axis of plot.below) axis.properties.major_label_text_color.change.connect(repaint);
    this.lanes.properties.inner_width?.change.connect(() => this.soon());
    this.paint();
    this.load();
    this.chart();
    ask(this.model, "hello", {at: this.number});
  }

  set(model, values) { model.setv(values, {sync: false}); }

  colour(name) { return getComputedStyle(this.root).getPropertyValue(`--jk-${name}`).trim(); }

  /** The theme's colours, on everything that does not stand in a source. */
  paint() {
    if (!this.lanes) return;
    this.paints = true;
    const [muted, line, strong, sans] = ["muted", "line", "line-strong", "sans"].map((name) => this.colour(name));
    this.gutter = this.root.clientWidth && this.root.clientWidth < 700 ? 96 : 160;
    for (const plot of [this.lanes, ...Object.values(this.charts)]) {
      this.set(plot, {min_border_left: this.gutter});
      if (plot.title) this.set(plot.title, {text_color: muted, text_font: sans, text_font_size: "12px", text_font_style: "normal"});
      for (const axis of [...plot.below, ...plot.left])
        this.set(axis, {major_label_text_color: muted, major_label_text_font: sans, major_label_text_font_size: "12px", axis_line_color: line, axis_line_alpha: 1, minor_tick_line_color: null, major_tick_line_color: null});
      for (const grid of plot.center) if (grid.grid_line_color !== undefined && grid.grid_line_color !== null) this.set(grid, {grid_line_color: line});
    }
    const solid = (glyph, ...names) => (colour) => this.set(glyph, Object.fromEntries(names.map((name) => [name, {value: colour}])));
    const find = (plot, name) => plot.renderers.find((each) => each.name === name).glyph;
    solid(find(this.lanes, "wait"), "fill_color")(strong);
    solid(find(this.lanes, "join"), "line_color")(muted);
    solid(find(this.lanes, "due"), "line_color")(this.colour("scheduled"));
    solid(find(this.lanes, "now"), "line_color")(this.colour("accent"));
    this.set(find(this.lanes, "label"), {text_font: {value: sans}});
    for (const [name, token] of [["succeeded", "good"], ["failed", "failed"], ["cancelled", "line-strong"]]) solid(find(this.charts.ends, name), "fill_color")(this.colour(token));
    for (const name of ["depth", "busy"]) solid(find(this.charts[name], "area"), "fill_color")(name === "depth" ? strong : this.colour("fill"));
    for (const each of this.charts.tasks.renderers.filter((one) => one.name === "median")) solid(each.glyph, "fill_color")(this.colour("bg"));
    this.paints = false;
    this.draw();
    this.chart();
  }

  // -- what the server tells -------------------------------------------------------------------------------------------

  load() {
    const data = parse(this.model.get("page"), null);
    if (!data || !this.sources || data.n < this.number) return;
    this.number = data.n;
    this.jobs.clear();
    this.take(data);
    this.turn();
  }

  change() {
    if (!this.sources) return;
    for (const delta of parse(this.model.get("delta"), [])) {
      if (delta.n <= this.number) continue;
      if (delta.n > this.number + 1) return ask(this.model, "hello", {at: this.number});  // some are missing
      this.number = delta.n;
      for (const id of delta.gone) this.jobs.delete(id);
      this.take(delta);
    }
    this.soon();
  }

  take({bars, due, since, now}) {
    this.skew = now - Date.now();
    [this.due, this.since] = [due, since];
    const made = new Map();
    for (const [job, attempt, task, name, args, worker, slot, ready, start, end, outcome, reason] of bars) {
      if (!made.has(job)) made.set(job, []);
      made.get(job).push({job, attempt, task, name, args, worker, slot, ready, start, end, outcome, reason});
      if (!this.hues.has(task)) this.hues.set(task, this.hues.size % 8 + 1);
    }
    for (const [job, attempts] of made) this.jobs.set(job, attempts);
  }

  // -- what is looked at -----------------------------------------------------------------------------------------------

  now() { return Date.now() + this.skew; }

  every() { return [...this.jobs.values()].flat(); }

  choose(name) {
    this.follows = true;
    ask(this.model, "range", {range: name});
    if (name === this.model.get("range")) this.turn();
  }

  walk(event) {
    const step = {ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1}[event.key], names = Object.keys(RANGE_WORDS);
    if (!step) return;
    const name = names[(names.indexOf(this.model.get("range")) + step + names.length) % names.length];
    this.choose(name);
    this.n.ranges.querySelector(`[data-range="${name}"]`).focus();
  }

  showRange() {
    for (const button of this.n.ranges.children) {
      const is = button.dataset.range === this.model.get("range");
      button.setAttribute("aria-checked", String(is));
      button.tabIndex = is ? 0 : -1;
    }
  }

  turn() {
    this.showRange();
    this.draw();
  }

  /** From when to when, while it follows the clock. */
  range() {
    const now = this.now(), name = this.model.get("range");
    let start = now - SPANS[name];
    if (name === "fit") {
      start = now - 60e3;
      for (const bar of this.every()) start = Math.min(start, bar.ready ?? bar.start);
      start = Math.max(start, now - SPANS["24h"]);
    }
    const near = this.due.map(([, , at]) => at).filter((at) => at > now && at - now < (now - start) * 0.2);
    return [start, Math.max(now + (now - start) * 0.03, ...near.map((at) => at + (now - start) * 0.02))];
  }

  move(start, end) {
    this.moves = true;
    this.set(this.x, {start: start + this.shift, end: end + this.shift});
    this.moves = false;
  }

  zoom(by) {
    const [start, end] = [this.x.start - this.shift, this.x.end - this.shift], middle = this.follows ? this.now() : (start + end) / 2, half = (end - start) * by;
    this.move(this.follows ? middle - half * 0.97 : middle - half / 2, this.follows ? middle + half * 0.03 : middle + half / 2);
    this.follows = false;
    this.n.now.hidden = false;
    this.draw();
  }

  tick() {
    if (this.sources && this.root.offsetParent) this.draw();
  }

  soon() {
    this.frame ??= requestAnimationFrame(() => { this.frame = null; this.draw(); });
  }

  // -- drawing ---------------------------------------------------------------------------------------------------------

  draw() {
    if (!this.sources) return;
    const now = this.now();
    if (this.follows) this.move(...this.range());
    this.n.now.hidden = this.follows;
    const [start, end] = [this.x.start - this.shift, this.x.end - this.shift], seen = this.every().filter((bar) => bar.start <= end && (bar.end ?? now) >= start);
    const rows = this.rows(seen), places = new Map(rows.map(([worker, slot], i) => [`${worker}\n${slot}`, i]));
    const names = this.names(rows), due = this.due.filter(([, , at]) => at >= start && at <= end);
    if (due.length) names.push(SCHEDULED);
    this.set(this.y, {factors: [...names].reverse()});
    this.set(this.lanes, {height: CHROME + LANE * Math.max(1, names.length)});
    const scale = (this.lanes.inner_width || Math.max(200, this.root.clientWidth - this.gutter - 20)) / (end - start);
    const at = (bar) => names[places.get(`${bar.worker}\n${bar.slot}`)];
    this.shown = this.blocks(seen.filter((bar) => at(bar)), at, now, scale);
    const chosen = this.model.get("selected"), local = (ms) => ms + this.shift, red = this.colour("failed"), ground = this.colour("bg"), hollow = this.colour("line-strong"), text = this.colour("text"), ink = this.colour("on-series");
    const fills = Object.fromEntries([1, 2, 3, 4, 5, 6, 7, 8].map((i) => [i, this.colour(`series-${i}`)]));
    const fill = (each) => (each.failed ? red : each.quiet ? hollow : fills[this.hues.get(each.bar.task)]);
    this.columns("bars", this.shown, {y: (each) => each.y, left: (each) => local(each.left), right: (each) => local(each.right), fill,
      line: (each) => (each.bars.some((bar) => bar.job === chosen) || each.bar === this.picked ? text : each.bar.outcome === "running" && each.bars.length === 1 ? fill(each) : ground),
      alpha: (each) => (each.bars.length > 1 ? 0.75 : each.bar.outcome === "running" ? 0.8 : each.quiet ? 0.45 : 1),
      label: (each) => this.label(each, scale), ink: (each) => (each.failed ? ground : each.quiet ? text : ink)});
    const alone = this.shown.filter((each) => each.bars.length === 1).map((each) => each);
    this.columns("waits", alone.filter(({bar}) => bar.ready != null && (bar.start - bar.ready) * scale >= 2), {y: (each) => each.y, left: (each) => local(each.bar.ready), right: (each) => local(each.bar.start)});
    this.columns("fails", alone.filter((each) => each.failed && (each.right - each.left) * scale >= 14), {x: (each) => local(each.right - 7 / scale), y: (each) => each.y, ink: () => ground});
    const joins = [];
    for (const attempts of this.jobs.values()) for (let i = 1; i < attempts.length; i++) if (at(attempts[i]) && at(attempts[i - 1]) && attempts[i - 1].end != null) joins.push([attempts[i - 1], attempts[i]]);
    // A web of them would say nothing: of many, those of the job that is looked at.
    const told = joins.length <= JOINS ? joins : joins.filter(([one]) => [chosen, this.picked?.job, this.over?.bar.job].includes(one.job));
    this.columns("joins", told, {x0: ([one]) => local(one.end), y0: ([one]) => at(one), x1: ([, two]) => local(two.start), y1: ([, two]) => at(two)});
    this.columns("due", due, {x: ([, , ms]) => local(ms), y: () => SCHEDULED});
    this.columns("now", [now], {x: local});
    this.tell(seen, start, now, rows);
  }

  columns(name, rows, columns) {
    const data = Object.fromEntries(Object.entries(columns).map(([column, of]) => [column, rows.map(of)]));
    this.sources[name].setv({data}, {sync: false, check_eq: false});
  }

  /** Workers and slots that have a bar in sight, by name. */
  rows(bars) {
    const slots = new Map();
    for (const bar of bars) slots.set(bar.worker, Math.max(slots.get(bar.worker) ?? 0, bar.slot + 1));
    const rows = [...slots].sort(([one], [two]) => (one < two ? -1 : 1)).flatMap(([worker, count]) => Array.from({length: count}, (_, slot) => [worker, slot]));
    this.hidden = Math.max(0, rows.length - LANES);
    return rows.slice(0, LANES);
  }

  /** A lane's name is short and unlike the others: slots after the first are told apart by characters without a width. */
  names(rows) {
    const room = Math.floor((this.gutter - 16) / 6.6), used = new Set();
    return rows.map(([worker, slot]) => {
      let name = slot ? "·" : worker.length > room ? `${worker.slice(0, room - 6)}…${worker.slice(-5)}` : worker;
      while (used.has(name) || name === SCHEDULED || !name) name += "\u200b";
      used.add(name);
      return name;
    });
  }

  /** Bars as they are drawn: those too narrow to be seen become one block with their neighbours. */
  blocks(bars, at, now, scale) {
    const made = [], last = new Map();
    for (const bar of [...bars].sort((one, two) => one.start - two.start)) {
      const y = at(bar), [left, right] = [bar.start, bar.end ?? now], block = last.get(y), narrow = (right - left) * scale < NARROW;
      if (narrow && block?.narrow && (left - block.right) * scale < 2) {
        block.bars.push(bar);
        block.right = Math.max(block.right, right);
      } else {
        const fresh = {bar, bars: [bar], y, left, right, narrow};
        last.set(y, fresh);
        made.push(fresh);
      }
    }
    for (const each of made) {
      each.right = Math.max(each.right, each.left + 2 / scale);
      each.failed = each.bars.some((bar) => bar.outcome === "failed" || bar.outcome === "retried" || bar.outcome === "lost");
      each.quiet = !each.failed && each.bars.length === 1 && (each.bar.outcome === "cancelled" || each.bar.outcome === "released");
    }
    return made;
  }

  label({bar, bars, left, right, failed}, scale) {
    const room = Math.floor(((right - left) * scale - (failed ? 22 : 8)) / 6);
    if (bars.length > 1) return room >= String(bars.length).length ? String(bars.length) : "";
    return room < 4 || bar.slot === SHARED ? "" : bar.name.length > room ? `${bar.name.slice(0, room - 1)}…` : bar.name;
  }

  /** The words beside the picture, which are also what a screen reader has of it. */
  tell(seen, start, now, rows) {
    const n = this.n, failed = seen.filter((bar) => bar.outcome === "failed").length, running = seen.filter((bar) => bar.end == null).length, workers = new Set(rows.map(([worker]) => worker)).size;
    const many = (count, word) => `${number(count)} ${word}${count === 1 ? "" : "s"}`;
    put(n.sum, this.jobs.size ? [many(seen.length, "attempt"), failed && `${number(failed)} failed`, running && `${number(running)} running`, many(workers, "worker")].filter(Boolean).join(" · ") : "");
    const total = this.jobs.size;
    n.empty.hidden = total > 0;
    if (this.all.visible !== total > 0) this.set(this.all, {visible: total > 0});
    const notes = [this.since && start < this.since && `Attempts before ${clock(new Date(this.since).toISOString()).slice(0, 8)} are not all shown: the newest 2,000 are kept here.`, this.hidden && `${many(this.hidden, "more lane")} not shown.`].filter(Boolean);
    put(n.note, notes.join(" "));
    n.note.hidden = !notes.length;
    const tasks = [...new Set(seen.map((bar) => bar.task))].sort().slice(0, 8), key = `${tasks.join("\n")}${this.root.dataset.theme}`;
    if (n.legend.dataset.key === key) return;
    n.legend.dataset.key = key;
    n.legend.hidden = !tasks.length;
    const entry = (style, text, kind = "") => h("li", {title: text}, h("i", {class: kind, style}), h("span", {text}));
    n.legend.replaceChildren(...tasks.map((task) => entry(`--s: var(--jk-series-${this.hues.get(task)})`, task)), entry("--s: var(--jk-failed)", "failed"), entry("", "waited", "wait"));
  }

  // -- charts ----------------------------------------------------------------------------------------------------------

  chart() {
    const told = parse(this.model.get("series"), null);
    if (!told || !this.sources || told.range !== this.model.get("range")) return;
    const {edges} = told, steps = edges.slice(1).map((_, i) => i), side = {left: (i) => edges[i] + this.shift, right: (i) => edges[i + 1] + this.shift};
    const [s, f] = [(i) => told.succeeded[i], (i) => told.succeeded[i] + told.failed[i]];
    this.columns("ends", steps, {...side, zero: () => 0, s, f, c: (i) => f(i) + told.cancelled[i]});
    for (const name of ["depth", "busy"]) this.columns(name, steps, {...side, top: (i) => told[name][i] ?? NaN});
    const top = (name, values) => this.set(this.get(`top-${name}`), {end: Math.max(1, ...values) * 1.12});
    top("ends", steps.map((i) => f(i) + told.cancelled[i]));
    top("depth", told.depth.map((value) => value ?? 0));
    top("busy", told.busy.map((value) => value ?? 0));
    const per = (edges[1] - edges[0]) / 1000;
    const narrow = this.gutter < 160;
    this.set(this.charts.ends.title, {text: narrow ? `Ended, per ${duration(per)}` : `Jobs that ended, per ${duration(per)} · green done, red failed, grey cancelled`});
    this.set(this.charts.tasks.title, {text: narrow ? "Waiting (grey) and running, by task" : "Waiting (grey) and running by task: from 10 to 90 %, the middle half, its median"});
    this.set(this.charts.busy.title, {text: told.slots ? `Attempts at once, of ${number(told.slots)} slot${told.slots > 1 ? "s" : ""}` : "Attempts at once"});
    const room = Math.floor((this.gutter - 16) / 6.6), names = this.names(told.tasks.map(({task}) => [task.length > room ? `${task.slice(0, room - 1)}…` : task, 0]));
    this.set(this.get("names"), {factors: [...names].reverse()});
    this.set(this.charts.tasks, {height: 60 + 34 * Math.max(1, names.length), visible: names.length > 0});
    const [grey, values] = [this.colour("line-strong"), []];
    for (const kind of ["waited", "ran"]) {
      const rows = told.tasks.map((each, i) => ({name: names[i], task: each.task, q: each[kind].map((value) => Math.max(0.001, value))})).filter(({q}) => q.length);
      values.push(...rows.flatMap(({q}) => q));
      const q = (i) => (row) => row.q[i];
      this.columns(`tasks-${kind}`, rows, {y: ({name}) => name, low: q(0), q1: q(1), mid: q(2), q3: q(3), high: q(4), fill: ({task}) => (kind === "waited" ? grey : this.colour(`series-${this.hues.get(task) || 8}`))});
    }
    this.set(this.get("seconds"), {start: Math.min(...values, 0.1) * 0.7, end: Math.max(...values, 1) * 1.5});
  }

  // -- pointer and keyboard --------------------------------------------------------------------------------------------

  /** What is drawn at a place of the figure. */
  under({x, y}) {
    const names = [...this.y.factors], row = names[Math.floor(y)], slack = 3 * (this.x.end - this.x.start) / (this.lanes.inner_width || 800), ms = x - this.shift;
    return this.shown.filter((each) => each.y === row && each.left - slack <= ms && ms <= each.right + slack).pop();
  }

  tap(event) {
    const found = this.under(event);
    if (!found) return;
    if (found.bars.length === 1) return ask(this.model, "open", {id: found.bar.job});
    const room = Math.max(1000, found.right - found.left);
    this.follows = false;
    this.move(found.left - room * 0.2, found.right + room * 0.2);
    this.draw();
  }

  hover(event) {
    const found = this.under(event);
    this.over = found;
    found ? this.show(found) : this.leave();
  }

  hide(event) {
    if (!event.composedPath().some((node) => node.tagName === "CANVAS" || node.classList?.contains("bk-events"))) this.leave();
  }

  leave() {
    this.over = null;
    this.n.tip.hidden = true;
  }

  show({bar, bars}) {
    const {tip} = this.n, end = bar.end ?? this.now();
    const lines = bars.length > 1 ? [h("b", {text: `${number(bars.length)} attempts`}), h("p", {class: "muted", text: "click to see them apart"})] : [
      h("b", {text: bar.name}), bar.args && h("p", {class: "mono muted", text: bar.args}),
      h("p", {text: [OUTCOMES[bar.outcome] || bar.outcome, duration((end - bar.start) / 1000), bar.ready != null && bar.start - bar.ready >= 1 && `waited ${duration((bar.start - bar.ready) / 1000)}`].filter(Boolean).join(" · ")}),
      bar.reason && h("p", {text: bar.reason}), h("p", {class: "muted", text: `${bar.worker}${bar.attempt > 1 ? ` · attempt ${bar.attempt}` : ""} · ${exact(bar.start)}`})];
    tip.replaceChildren(...lines.filter(Boolean));
    tip.hidden = false;
    const at = this.pointer || {clientX: 200, clientY: 120}, box = tip.getBoundingClientRect();
    tip.style.left = `${Math.max(8, Math.min(at.clientX + 14, innerWidth - box.width - 8))}px`;
    tip.style.top = `${Math.max(56, at.clientY + 18 + box.height > innerHeight ? at.clientY - box.height - 12 : at.clientY + 18)}px`;
  }

  /** `j` and `k` go from attempt to attempt, Enter opens its job: the same as the pointer does. */
  key(event) {
    if (!this.root.offsetParent || isTyping(event) || !this.sources) return;
    const alone = this.shown.filter((each) => each.bars.length === 1), at = alone.findIndex((each) => each.bar === this.picked), step = {j: -1, k: 1}[event.key];
    if (step && alone.length) {
      const found = alone[at < 0 ? alone.length - 1 : Math.max(0, Math.min(alone.length - 1, at + step))];
      this.picked = found.bar;
      const box = this.root.getBoundingClientRect();
      this.pointer = {clientX: box.left + this.gutter + (found.left + this.shift - this.x.start) / (this.x.end - this.x.start) * (this.lanes.inner_width || 0), clientY: box.bottom};
      this.draw();
      this.show(found);
    } else if (event.key === "Enter" && this.picked && !/^(BUTTON|A)$/.test(focused()?.tagName)) ask(this.model, "open", {id: this.picked.job});
    else if (event.key === "Escape") {
      if (this.model.get("selected")) ask(this.model, "open", {id: ""});
      this.picked = null;
      this.leave();
      this.draw();
    }
  }
}

export default {render: (props) => mount(props, (model, el) => new TimelineHead(model, el, props.view))};
