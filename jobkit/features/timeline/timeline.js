// The timeline (page.py): fills the figures and colours them. Texts come from the server once for
// all sessions; what is drawn of them, at which width, is decided here: which range, and what stands on the lanes
// (timeline_lanes.js), in the legend and the charts (timeline_legend.js, timeline_charts.js), and under the pointer and the
// keys (timeline_pointer.js).
// Nothing that is set here goes back to the server (`sync: false`).

const SPANS = {"15m": 900e3, "1h": 3600e3, "6h": 21600e3, "24h": 86400e3};
const RANGE_WORDS = {fit: "All", "15m": "15 min", "1h": "1 h", "6h": "6 h", "24h": "24 h"};
const LANE_WORDS = {worker: "Workers", task: "Tasks", batch: "Batches"};
const [LANE, CHROME, JOINS, TEXTURED] = [24, 34, 12, 12];

/** `1 batch`, `2 batches`. */
const counted = (count, word) => (word === "batch" && count !== 1 ? `${number(count)} batches` : many(count, word));

/** Sources of the texts on bars; textures of `TaskColours`, with none; the share of a task's colour in its waiting time. */
const LABELS = ["label", "label_dark", "label_failed", "label_quiet"];
const [TEXTURES, PALE] = [3, 0.35];

class TimelineHead extends View {
  constructor(model, el, view) {
    super(model);
    this.document = view.model.document;
    this.jobs = new Map();  // id -> its attempts, oldest first
    this.due = [];
    this.first = Date.now() - 60e3;  // from when every attempt is seen
    this.number = 0;
    this.colours = {};  // task -> see TaskColours
    this.titles = new Map();  // task -> the title on its bars, or its name
    this.follows = true;
    this.shown = [];
    this.pointer = new Pointer(this);
    this.box = new SearchBox(model, "attempts");
    this.legend = new Legend(this);
    this.build();
    this.appear(el);
    this.on({page: () => this.load(), delta: () => this.change(), series: () => showCharts(this), selected: () => this.draw(), range: () => this.turn(), lanes: () => this.turn(), search: () => this.soon(), problem: () => this.soon()});
    this.listen(document, "keydown", (event) => this.key(event));
    this.listen(document, "pointermove", (event) => this.pointer.moved(event));
    this.stops.push(() => this.box.stop(), () => clearTimeout(this.later), () => cancelAnimationFrame(this.frame));
    this.turn();
    this.attach(200);
  }

  themed() { this.paint(); }

  build() {
    const {n} = this;
    n.sum = h("p", {class: "sum", role: "status", text: "Reading…"});
    this.ranges = radios(Object.entries(RANGE_WORDS), (name) => this.choose(name), {class: "ranges", "aria-label": "Range"});
    this.kinds = radios(Object.entries(LANE_WORDS), (lanes) => ask(this.model, "lanes", {lanes}), {class: "ranges", "aria-label": "Lanes"});
    n.now = h("button", {class: "btn small", text: "Back to now", hidden: true, onclick: () => this.follow()});
    n.zoom = h("div", {class: "zoom"}, [["−", "Zoom out", 2], ["+", "Zoom in", 0.5]].map(([text, title, by]) => h("button", {class: "btn small", text, title, "aria-label": title, onclick: () => this.zoom(by)})));
    n.note = h("p", {class: "note", hidden: true});
    n.tip = h("div", {class: "tip", hidden: true, role: "status"});
    n.empty = h("div", {class: "nothing", hidden: true});
    this.root = h("section", {class: "jk jk-timeline", "aria-label": "Timeline"}, h("div", {class: "line"}, n.sum, h("span", {class: "spring"}), this.box.el, h("div", {class: "view"}, n.now, n.zoom, this.kinds.el, this.ranges.el)), this.box.problem, this.legend.el, n.note, n.empty, n.tip);
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
    this.sources = Object.fromEntries(["waits", "bars", ...LABELS, "texture-1", "texture-2", "joins", "fails", "due", "now", "ends", "depth", "busy", "tasks-waited", "tasks-ran"].map((name) => [name, this.get(name)]));
    [this.x, this.y, this.lanes] = [this.get("x"), this.get("y"), this.get("lanes")];
    this.charts = Object.fromEntries(["ends", "depth", "busy", "tasks"].map((name) => [name, this.get(`chart-${name}`)]));
    const moved = () => { if (!this.moves) { this.follows = false; this.n.now.hidden = false; this.soon(); } };
    for (const side of ["start", "end"]) this.x.properties[side].change.connect(moved);
    this.lanes.on_event("tap", (event) => this.pointer.tap(event));
    this.lanes.on_event("mousemove", (event) => this.pointer.hover(event));
    this.lanes.on_event("mouseleave", () => this.pointer.leave());
    // Panel's Material page colours every figure by its own theme, when it finds one and when the theme changes.
    const repaint = () => { if (!this.paints) { clearTimeout(this.later); this.later = setTimeout(() => this.paint(), 0); } };
    for (const plot of [this.lanes, ...Object.values(this.charts)]) for (const axis of plot.below) axis.properties.major_label_text_color.change.connect(repaint);
    this.lanes.properties.inner_width.change.connect(() => this.soon());
    this.paint();
    this.load();
    showCharts(this);
    ask(this.model, "hello", {at: this.number});
  }

  /** Of the lanes, in px; 0 before Bokeh has laid them out, when newer versions answer with an error. */
  get width() { return this.lanes.properties.inner_width.is_unset ? 0 : this.lanes.inner_width; }

  set(model, values) { model.setv(values, {sync: false}); }

  colour(name) { return getComputedStyle(this.root).getPropertyValue(`--jk-${name}`).trim(); }

  /** The theme's colours, on everything that does not stand in a source. */
  paint() {
    if (!this.lanes) return;
    this.paints = true;
    const [muted, line, strong, sans] = ["muted", "line", "line-strong", "sans"].map((name) => this.colour(name));
    this.isNarrow = this.root.clientWidth > 0 && this.root.clientWidth < 700;
    this.gutter = this.isNarrow ? 96 : 160;
    this.hues = Object.fromEntries([1, 2, 3, 4, 5, 6, 7, 8].map((i) => [i, this.colour(`series-${i}`)]));
    this.pales = Object.fromEntries(Object.entries(this.hues).map(([i, hue]) => [i, mixed(hue, this.colour("bg"), PALE)]));
    for (const plot of [this.lanes, ...Object.values(this.charts)]) {
      this.set(plot, {min_border_left: this.gutter});
      if (plot.title) this.set(plot.title, {text_color: muted, text_font: sans, text_font_size: "12px", text_font_style: "normal"});
      for (const axis of [...plot.below, ...plot.left])
        this.set(axis, {major_label_text_color: muted, major_label_text_font: sans, major_label_text_font_size: "12px", axis_line_color: line, axis_line_alpha: 1, minor_tick_line_color: null, major_tick_line_color: null});
      for (const grid of plot.center) if (grid.grid_line_color !== undefined && grid.grid_line_color !== null) this.set(grid, {grid_line_color: line});
    }
    const solid = (glyph, ...names) => (colour) => this.set(glyph, Object.fromEntries(names.map((name) => [name, {value: colour}])));
    const find = (plot, name) => plot.renderers.find((each) => each.name === name).glyph;
    solid(find(this.lanes, "join"), "line_color")(this.colour("text"));
    for (let i = 1; i < TEXTURES; i++) solid(find(this.lanes, `texture-${i}`), "hatch_color")(this.colour("bg"));
    solid(find(this.lanes, "due"), "line_color")(this.colour("scheduled"));
    solid(find(this.lanes, "now"), "line_color")(this.colour("accent"));
    for (const [name, token] of [["label", "#ffffff"], ["label_dark", "#0b1220"], ["label_failed", this.colour("bg")], ["label_quiet", this.colour("text")]])
      this.set(find(this.lanes, name), {text_font: {value: sans}, text_color: {value: token}});
    solid(find(this.lanes, "fail"), "line_color")(this.colour("bg"));
    for (const name of ENDS) solid(find(this.charts.ends, name), "fill_color")(this.colour({succeeded: "good", failed: "failed"}[name] || "line-strong"));
    for (const name of ["depth", "busy"]) solid(find(this.charts[name], "area"), "fill_color")(name === "depth" ? strong : this.colour("fill"));
    for (const each of this.charts.tasks.renderers.filter((one) => one.name === "median")) solid(each.glyph, "fill_color")(this.colour("bg"));
    this.paints = false;
    this.draw();
    showCharts(this);
  }

  // -- what the server tells -------------------------------------------------------------------------------------------

  load() {
    const data = parse(this.model.get("page"), null);
    if (!data || !this.sources) return;
    this.number = data.n;
    this.searched = data.searched;
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

  take({bars, colours, due, start, since, now}) {
    this.skew = now - Date.now();
    [this.due, this.first, this.since] = [due, start, since];
    Object.assign(this.colours, colours);
    const made = new Map();
    for (const [job, attempt, task, name, args, worker, slot, ready, start, end, outcome, reason, batch] of bars) {
      if (!made.has(job)) made.set(job, []);
      made.get(job).push({job, attempt, task, name, args, worker, slot, ready, start, end, outcome, reason, batch});
    }
    for (const [job, attempts] of made) this.jobs.set(job, attempts);
    this.arrange();
  }

  /** Compute lanes and titles of tasks, which depend on all attempts and not on those in sight. */
  arrange() {
    arrangeLanes(this.jobs.values(), this.model.get("lanes"));
    const names = new Map(), used = new Map();
    for (const [{task, name}] of this.jobs.values()) names.set(task, names.has(task) && names.get(task) !== name ? task : name);
    for (const name of names.values()) used.set(name, (used.get(name) || 0) + 1);
    this.titles = new Map([...names].map(([task, name]) => [task, used.get(name) > 1 ? task : name]));
  }

  titleOf(task) { return this.titles.get(task) ?? task; }

  /** The number of a task's colour, from 1, and that of its texture. */
  styleOf(task) { const of = this.colours[task] ?? 0; return [of % 8 + 1, Math.floor(of / 8) % TEXTURES]; }

  // -- what is looked at -----------------------------------------------------------------------------------------------

  every() { return [...this.jobs.values()].flat(); }

  choose(name) {
    this.follows = true;
    ask(this.model, "range", {range: name});
    if (name === this.model.get("range")) this.turn();
  }

  turn() {
    this.ranges.mark(this.model.get("range"));
    this.kinds.mark(this.model.get("lanes"));
    this.arrange();
    this.draw();
  }

  /** Show the range until now again. */
  follow() {
    this.follows = true;
    this.draw();
  }

  /** From when to when, while it follows the clock. */
  range() {
    const now = this.now(), span = SPANS[this.model.get("range")], start = span ? now - span : this.first;
    const near = this.due.map(([, , at]) => at).filter((at) => at > now && at - now < (now - start) * 0.2);
    return [start, Math.max(now + (now - start) * 0.03, ...near.map((at) => at + (now - start) * 0.02))];
  }

  /** The moments at the two ends of the axes. */
  seen() { return [fromAxis(this.x.start), fromAxis(this.x.end)]; }

  move(start, end) {
    this.moves = true;
    this.set(this.x, {start: toAxis(start), end: toAxis(end)});
    this.moves = false;
  }

  /** Zoom around the middle, around now while the range ends there, or around a shape. */
  zoom(by, shape) {
    const [start, end] = this.seen(), span = (end - start) * by;
    const [middle, share] = shape ? [(shape.left + shape.right) / 2, 0.5] : this.follows ? [this.now(), 0.97] : [(start + end) / 2, 0.5];
    this.show(middle - span * share, middle + span * (1 - share));
  }

  /** Show the time between two moments. */
  show(start, end) {
    this.follows = false;
    this.move(start, end);
    this.draw();
  }

  key(event) {
    if (this.root.offsetParent && !this.box.key(event)) this.pointer.key(event);
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
    const [start, end] = this.seen(), seen = this.every().filter((bar) => bar.start <= end && (bar.end ?? now) >= start);
    const by = this.model.get("lanes"), every = laneRows(seen, by), rows = every.slice(0, LANES), places = new Map(rows.map((lane, i) => [lane.join("\n"), i]));
    const names = laneNames(by === "task" ? rows.map(([task, slot]) => [this.titleOf(task), slot]) : rows, this.gutter), due = this.due.filter(([, , at]) => at >= start && at <= end);
    if (due.length) names.push(SCHEDULED);
    this.set(this.y, {factors: [...names].reverse()});
    this.set(this.lanes, {height: CHROME + LANE * Math.max(1, names.length)});
    const scale = (this.width || Math.max(200, this.root.clientWidth - this.gutter - 20)) / (end - start);
    const at = (bar) => names[places.get(bar.lane.join("\n"))];
    this.shown = laneBlocks(seen.filter((bar) => at(bar)), at, now, scale);
    const chosen = this.model.get("selected"), red = this.colour("failed"), ground = this.colour("bg"), hollow = this.colour("line-strong"), text = this.colour("text");
    const alpha = (each) => (each.quiet ? 0.45 : each.bars.length > 1 || each.bar.outcome === "running" ? 0.9 : 1);
    const fill = (each) => (each.failed ? red : each.quiet ? hollow : this.hues[this.styleOf(each.bar.task)[0]]);
    const ink = (each) => (each.failed ? "label_failed" : each.quiet ? "label_quiet" : isLight(mixed(fill(each), ground, alpha(each))) ? "label_dark" : "label");
    const texture = (each) => (each.failed || each.quiet ? 0 : this.styleOf(each.bar.task)[1]);
    // A texture begins behind the label, which could not be read on it.
    for (const each of this.shown) each.text = laneLabel(each, scale, texture(each) ? TEXTURED : 0);
    const plain = (each) => each.left + (each.text ? (each.text.length * LETTER + 8) / scale : 0), labels = this.shown.filter(({text}) => text);
    const isPicked = (each) => each.bars.some((bar) => bar.job === chosen || bar === this.pointer.picked);
    this.columns("bars", this.shown, {y: (each) => each.y, left: (each) => toAxis(each.left), right: (each) => toAxis(each.right), fill,
      line: (each) => (isPicked(each) ? text : each.bar.outcome === "running" && each.bars.length === 1 ? fill(each) : ground), alpha});
    for (const kind of LABELS) this.columns(kind, labels.filter((each) => ink(each) === kind), {x: (each) => toAxis(each.left), y: (each) => each.y, text: (each) => each.text});
    for (let i = 1; i < TEXTURES; i++) this.columns(`texture-${i}`, this.shown.filter((each) => texture(each) === i && (each.right - plain(each)) * scale >= TEXTURED - 1), {y: (each) => each.y, left: (each) => toAxis(plain(each)), right: (each) => toAxis(each.right)});
    const alone = this.shown.filter((each) => each.bars.length === 1);
    this.columns("waits", alone.filter(({bar}) => bar.ready != null && (bar.start - bar.ready) * scale >= 2), {y: (each) => each.y, left: (each) => toAxis(each.bar.ready), right: (each) => toAxis(each.bar.start), fill: (each) => this.pales[this.styleOf(each.bar.task)[0]]});
    this.columns("fails", alone.filter((each) => each.failed && (each.right - each.left) * scale >= 14), {x: (each) => toAxis(each.right - 7 / scale), y: (each) => each.y});
    const joins = [];
    for (const attempts of this.jobs.values()) for (let i = 1; i < attempts.length; i++) if (at(attempts[i]) && at(attempts[i - 1]) && attempts[i - 1].end != null) joins.push([attempts[i - 1], attempts[i]]);
    // Across lanes, a web of them would say nothing: of many, those of the job that is looked at.
    const crossing = joins.filter(([one, two]) => at(one) !== at(two)).length, told = crossing <= JOINS ? joins : joins.filter(([one, two]) => at(one) === at(two) || [chosen, this.pointer.picked?.job, this.pointer.over?.bar.job].includes(one.job));
    this.columns("joins", told, {x0: ([one]) => toAxis(one.end), y0: ([one]) => at(one), x1: ([, two]) => toAxis(two.start), y1: ([, two]) => at(two)});
    this.columns("due", due, {x: ([, , ms]) => toAxis(ms), y: () => SCHEDULED});
    this.columns("now", [now], {x: toAxis});
    this.pointer.reach();
    this.tell(seen, start, rows, every.length - rows.length);
  }

  columns(name, rows, columns) {
    const data = Object.fromEntries(Object.entries(columns).map(([column, of]) => [column, rows.map(of)]));
    this.sources[name].setv({data}, {sync: false, check_eq: false});
  }

  /** The words beside the picture, which are also what a screen reader has of it. */
  tell(seen, start, rows, hidden) {
    const n = this.n, failed = seen.filter((bar) => bar.outcome === "failed").length, running = seen.filter((bar) => bar.end == null).length, groups = new Set(rows.map(([group]) => group)), word = {worker: "worker", task: "task", batch: "batch"}[this.model.get("lanes")];
    groups.delete(NO_BATCH);
    put(n.sum, this.jobs.size ? dotted(many(seen.length, "attempt"), failed && `${number(failed)} failed`, running && `${number(running)} running`, groups.size && counted(groups.size, word)) : "");
    const total = this.jobs.size;
    n.empty.hidden = total > 0;
    if (!total) this.showEmpty();
    if (this.all.visible !== total > 0) this.set(this.all, {visible: total > 0});
    const notes = [this.since && start <= this.since && `Attempts before ${clock(new Date(this.since).toISOString()).slice(0, 8)} are not all shown: the newest 2,000 are kept here.`, this.searched != null && `Only the newest ${many(this.searched, "job")} looked through so far.`, hidden && `${many(hidden, "more lane")} not shown.`].filter(Boolean);
    put(n.note, notes.join(" "));
    n.note.hidden = !notes.length;
    this.legend.show(seen);
  }

  /** Show the text that replaces the figures. */
  showEmpty() {
    const {box} = this, problem = this.model.get("problem");
    const [big, small] = problem ? ["This search is not understood", ""]
      : this.searched != null ? ["Still looking", "None among the newest jobs so far; the older ones are being read."]
        : box.text ? ["No attempt matches", "No job that this search finds has run."]
          : ["Nothing has run yet", "Each attempt of a job becomes a bar on its worker's line, from the moment at which it starts."];
    if (!isNew(this.n.empty, big)) return;
    const all = h("button", {class: "btn", text: "Show all attempts", onclick: () => box.ask("")});
    this.n.empty.replaceChildren(h("p", {class: "big", text: big}), h("p", {class: "muted", text: small, hidden: !small}), h("p", {hidden: !box.text}, all));
  }
}

export default {render: (props) => mount(props, (model, el) => new TimelineHead(model, el, props.view))};
