// The card of many jobs: one bar with counts, a plot of a result over an argument, a table. One module for notebooks
// (anywidget) and Panel (JSComponent). It shows the synced texts `head`, `table`, `delta`, `plot` and `curves`, made by
// batch_model.py. Only the rows that are on screen are in the document: ten thousand jobs scroll like ten.

const ROW = 30, WIDTHS = {state: "116px", id: "72px", note: "minmax(80px, 3fr)", trial: "64px"};

/** The rows of a model. */
const bookOf = (model) => keptOf(model, {rows: [], columns: [], n: 0}, (book) => ({
  table() {
    const data = parse(model.get("table"), null);
    if (!data) return;
    Object.assign(book, {rows: data.rows, columns: data.columns, isList: data.is_list, n: data.n});
    book.views.forEach((view) => view.columns());
  },
  delta() {
    const parts = [parse(model.get("delta"), [])].flat().filter((part) => part.n > book.n);
    if (!parts.length || !book.rows.length) return;
    if (parts[0].n > book.n + 1) ask(model, "table");  // some were missed
    book.n = parts.at(-1).n;
    for (const row of parts.flatMap((part) => part.rows)) book.rows[row[0]] = row;
    book.views.forEach((view) => view.sorted());
  },
}));

class BatchCard extends LiveCard {
  constructor(model, el) {
    super(model, el);
    Object.assign(this, {sort: null, state: "", book: bookOf(model)});
    const resize = new ResizeObserver(() => this.paint());
    resize.observe(this.root);
    this.book.views.add(this);
    this.stops.push(() => resize.disconnect(), () => this.book.views.delete(this));
    this.show();
    this.columns();
    this.draw();
    this.drawCurves();
    // A page that is being loaded misses what is sent meanwhile: say what has come.
    ask(model, "hello", {n: this.book.n, plot: (model.get("plot") || "").length});
  }

  get listeners() { return {head: () => this.show(), plot: () => this.draw(), curves: () => this.drawCurves(), file: () => this.takeFile()}; }

  get elsewhere() { return this.job?.led?.call ? `\`jobkit.connect().${this.job.led.call}\` in a new kernel shows it live.` : this.job?.id ? `\`jobkit.connect().batches.get("${this.job.id}")\` in a new kernel shows it live.` : "`jobkit.connect().jobs()` in a new kernel shows its jobs live."; }

  build() {
    const {n} = this;
    n.bar.classList.add("parts");
    n.states = h("div", {class: "states", role: "group", "aria-label": "Show jobs by state"});
    const pick = (key, word) => {
      n[key] = h("select", {class: "pick", "aria-label": word, onchange: () => ask(this.model, "plot", {x: n.x.value, y: n.y.value, by: n.by.value})});
      return h("label", {class: "muted"}, word, " ", n[key]);
    };
    n.best = h("p", {class: "best muted", hidden: true});
    n.errors = h("div", {class: "errors", role: "group", "aria-label": "Errors", hidden: true});
    n.note = h("span", {class: "muted"});
    n.picture = svg("svg", {role: "img"});
    n.all = h("button", {class: "btn quiet small", "aria-pressed": "false", title: "All arguments and numbers side by side", text: "Parallel", onclick: () => { n.all.setAttribute("aria-pressed", String(n.all.getAttribute("aria-pressed") !== "true")); this.draw(); }});
    n.lines = h("div", {class: "lines", hidden: true});
    n.legend = h("div", {class: "legend"});
    n.plot = h("section", {class: "plot", "aria-label": "Plot", hidden: true},
      h("header", {class: "strip"}, pick("y", "Plot"), pick("x", "over"), (n.byBox = pick("by", "by")), h("span", {class: "spring"}), n.note, n.all),
      n.picture, n.legend, n.lines);
    n.shares = importance();
    this.chosen = new BatchColumns(this);
    n.find = h("input", {class: "find", type: "search", placeholder: "Filter", "aria-label": "Filter the rows", oninput: () => this.sorted()});
    n.shown = h("span", {class: "muted"});
    n.problem = h("span", {class: "problem", role: "status"});
    n.csv = h("button", {class: "btn quiet small", title: "Save these rows as CSV", onclick: () => this.save()}, icon("download"), "CSV");
    n.head = h("div", {class: "row headrow", role: "row"});
    n.space = h("div", {class: "space"});
    n.rows = h("div", {class: "rows", role: "rowgroup"}, n.space);
    n.grid = h("div", {class: "grid", role: "table", "aria-label": "Jobs", tabindex: 0, onscroll: () => this.paint()}, n.head, n.rows);
    n.table = h("section", {class: "jobs", "aria-label": "Jobs"},
      h("header", {class: "strip"}, (n.jobs = h("h4", {text: "Jobs"})), n.shown, this.chosen.pickBox, h("span", {class: "spring"}), n.find, this.chosen.menu, n.csv, (n.parquet = this.download("parquet", "Parquet", "Save all rows as Parquet")), (n.files = this.download("artifacts", "Files", "Save the artifacts of all jobs as one ZIP file")), n.problem), n.grid);
    this.root = h("article", {class: "jk jk-live jk-batch"}, h("header", {class: "head"}, n.top, n.bar, n.below, h("div", {class: "known"}, n.states, n.meta), n.best, n.errors),
      n.alert, h("div", {class: "views"}, n.plot, n.shares), (this.charts = new Charts()).root, n.table, n.live);
  }

  show() {
    const job = (this.job = parse(this.model.get("head"), null)), n = this.n;
    this.root.classList.toggle("empty", !job);
    if (!job) return;
    this.root.classList.toggle("led", Boolean(job.led));
    const before = this.showHead(job, job.face, job.cancelling ? "Cancelling" : WORDS[job.face] || job.face);
    n.chip.hidden = job.is_list;
    put(n.title, job.title);
    put(n.args, job.fixed);
    n.args.title = job.fixed;
    n.bar.hidden = job.is_list && !job.open;
    n.bar.setAttribute("aria-valuenow", Math.floor(job.progress * 100));
    n.bar.setAttribute("aria-valuetext", job.counts.map(([, word, k]) => `${k} ${word}`).join(", "));
    n.bar.replaceChildren(...job.counts.filter(([face]) => !["queued", "scheduled"].includes(face)).map(([face, word, k]) => h("i", {"data-face": face, title: `${number(k)} ${word}`, style: `width:${(100 * k) / job.size}%`})));
    put(n.count, job.open ? `${number(job.ended)} / ${number(job.size)}` : "");
    put(n.message, job.rate);
    if (isNew(n.states, [job.counts, this.state])) {
      if (this.state && !job.counts.some(([face]) => face === this.state)) this.state = "";
      n.states.replaceChildren(...job.counts.map(([face, word, k]) => h("button", {class: "state", "data-face": face, "aria-pressed": String(this.state === face), title: `Show only these`,
        onclick: () => { this.state = this.state === face ? "" : face; this.show(); this.sorted(); }}, icon(face), `${number(k)} ${word.toLowerCase()}`)));
    }
    put(n.jobs, job.led ? job.led.jobs : "Jobs");
    if (isNew(n.table, [job.better, job.task]) && this.rows) this.columns();
    showImportance(n.shares, job.importance);
    this.showMeta(job.waits ? [job.waits] : []);
    n.metaText.title = job.waits;
    n.meta.hidden = !job.waits && !job.id;
    if (this.charts.charts) this.showDrawn();
    this.showBest(job);
    this.showErrors(job);
    this.showActions();
    this.tick();
    if (before && before !== job.face) put(n.live, `${job.title}: ${WORDS[job.face]}`);
  }

  /** The smallest and the largest value of the first number, or the best one. */
  showBest({best}) {
    const n = this.n;
    n.best.hidden = !best;
    if (!best || !isNew(n.best, best)) return;
    const [name, ...ends] = best;
    n.best.replaceChildren(...ends.flatMap(([word, value, point], i) => [i ? " · " : `${name}: `, word && `${word} `, h("b", {text: number(value), title: value}), point ? ` at ${point}` : ""]));
  }

  /** The groups of errors; each shows only its rows. */
  showErrors({errors}) {
    const n = this.n;
    n.errors.hidden = !errors?.length;
    if (!isNew(n.errors, errors)) return;
    n.errors.replaceChildren(...(errors || []).map(([type, message, k]) => h("button", {class: "error", title: message, onclick: () => { n.find.value = n.find.value === type ? "" : type; this.sorted(); }},
      h("b", {text: `${number(k)} × `}), h("span", {class: "mono", text: type}), message ? ` ${message}` : "")));
  }

  showActions() {
    const {job, n} = this;
    if (!isNew(n.actions, [job.open, job.ended > 0, job.failed, this.asked, job.cancelling, this.model.get("told")])) return;
    const {button} = this, out = [];
    const led = job.led, isOpen = job.open && !job.cancelling;
    const tell = job.open && !this.asked && this.tellButton();
    if (tell) out.push(tell);
    if (job.failed && !job.is_list && !led) out.push(button(`Retry ${number(job.failed)} failed`, job.open ? "" : "primary", () => ask(this.model, "retry")));
    if (isOpen && this.asked) out.push(button("Keep", "", () => this.confirm("")), button(led ? `Cancel the ${led.word}` : `Cancel ${many(job.open, "job")}`, "danger", () => { this.confirm(""); ask(this.model, "cancel"); }));
    else if (isOpen) out.push(button(led ? "Cancel" : job.ended ? "Cancel the rest" : "Cancel all", "", () => this.confirm("cancel")));
    this.putActions(out);
  }

  tick() {
    const job = this.job, n = this.n;
    if (!job) return;
    this.showElapsed(job.is_list ? {} : job);
    put(n.left, job.stopped_by ? `stopped by the rule at job ${job.stopped_by}` : job.is_list ? "" : this.timeLeft(job.eta_s));
    n.below.hidden = !n.count.textContent && !n.left.textContent;
  }

  // -- table -------------------------------------------------------------------------------------------------------

  columns() {
    const {columns, rows} = this.book, n = this.n;
    this.numeric = columns.map((_, c) => rows.some((row) => typeof row[2][c] === "number"));
    this.chosen.show();
    const places = this.chosen.shown();
    n.head.replaceChildren(...places.map((c) => [...columns[c], c]).map(([name, kind, c]) => h("button", {class: this.numeric[c] ? "num" : "", role: "columnheader", title: `Sort by ${name}`, "data-c": c,
      onclick: () => { this.sort = this.sort && this.sort[0] === c ? (this.sort[1] > 0 ? [c, -1] : null) : [c, 1]; this.sorted(); }}, h("span", {text: ["arg", "value"].includes(kind) ? name : name[0].toUpperCase() + name.slice(1)}), h("i"))));
    this.sorted();
  }

  sorted() {
    const n = this.n, wanted = n.find.value.trim().toLowerCase();
    let rows = this.book.rows;
    if (this.state) rows = rows.filter((row) => row[1] === this.state);
    if (wanted) rows = rows.filter((row) => [WORDS[row[1]], ...row[2].filter((_, c) => this.book.columns[c][1] !== "duration")].join(" ").toLowerCase().includes(wanted));
    if (this.sort) {
      const [c, way] = this.sort;
      const rank = (value) => (value == null || value === "" ? 2 : typeof value === "number" ? 0 : 1);
      rows = [...rows].sort((a, b) => {
        const x = a[2][c], y = b[2][c], r = rank(x) - rank(y);
        return r || (rank(x) === 2 ? 0 : way * (typeof x === "number" ? x - y : String(x).localeCompare(String(y)))) || a[0] - b[0];
      });
    }
    this.rows = rows;
    this.best = this.chosen.find();
    this.places = this.chosen.shown();
    this.widen();
    for (const button of n.head.children) {
      const on = this.sort && this.sort[0] === Number(button.dataset.c);
      button.setAttribute("aria-sort", on ? (this.sort[1] > 0 ? "ascending" : "descending") : "none");
    }
    put(n.shown, rows.length === this.book.rows.length ? number(rows.length) : `${number(rows.length)} of ${number(this.book.rows.length)}`);
    n.space.style.height = `${rows.length * ROW}px`;
    this.paint();
  }

  /** Puts the rows on screen into the document. */
  paint() {
    if (!this.rows) return;
    const n = this.n, first = Math.max(0, Math.floor(n.grid.scrollTop / ROW) - 4);
    const last = Math.min(this.rows.length, first + Math.ceil((n.grid.clientHeight || 330) / ROW) + 8);
    const made = [];
    for (let i = first; i < last; i++) made.push(this.row(this.rows[i], i));
    n.rows.replaceChildren(n.space, ...made);
  }

  /** Give each column its width; that of the marked best value also has room for its star. */
  widen() {
    const {columns, isList} = this.book, style = this.n.grid.style;
    const widths = this.places.map((c) => WIDTHS[columns[c][1]] || (isList && columns[c][1] === "arg" ? (c ? "minmax(160px, 4fr)" : "minmax(140px, 2fr)")
      : this.numeric[c] ? `minmax(${this.best?.[0] === c ? 112 : 84}px, 1fr)` : "minmax(96px, 2fr)"));
    style.setProperty("--columns", widths.join(" "));
    style.setProperty("--least", `${this.places.length * 96 + (this.best ? 28 : 0)}px`);
  }

  row([, face, cells, progress, started], i) {
    const [best, most] = this.best || [];
    return h("div", {class: `row${this.best && cells[best] === most ? " best" : ""}`, role: "row", style: `top:${i * ROW}px`, "data-face": face}, this.places.map((c) => {
      const value = cells[c], [, kind] = this.book.columns[c];
      if (kind === "state") return h("span", {role: "cell", class: "st"}, icon(face), progress == null ? WORDS[face] || face : `${Math.floor(progress * 100)} %`);
      if (kind === "id") return h("button", {role: "cell", class: "id mono muted", title: `${this.model.get("opens") ? "Open" : "Copy"} ${value}`, onclick: (event) => (this.model.get("opens") ? ask(this.model, "open", {id: value}) : copyText(value, event.currentTarget)), text: String(value).slice(0, 8)});
      const num = c === best && value === most ? "num top" : "num";
      if (kind === "duration") return h("span", {role: "cell", class: num, text: value == null ? "" : duration(value), title: started ? `started ${exact(started)}` : false});
      const text = value == null ? "" : typeof value === "number" ? number(value) : value === true ? "True" : value === false ? "False" : String(value);
      return h("span", {role: "cell", class: this.numeric[c] ? num : kind === "note" ? "muted" : kind === "arg" ? "mono" : "", text, title: typeof value === "number" ? value : text});
    }));
  }

  download(what, text, title) {
    return h("button", {class: "btn quiet small", title, onclick: (event) => { put(this.n.problem, ""); event.currentTarget.disabled = ask(this.model, "file", {what, n: String(Date.now())}); }}, icon("download"), text);
  }

  takeFile() {
    const told = parse(this.model.get("file"), null), n = this.n;
    if (!told) return;
    this.model.set("file", "");  // it may be large, and is needed once
    this.model.save_changes();
    n.parquet.disabled = n.files.disabled = false;
    put(n.problem, told.problem || "");
    if (told.base64) saveFile(told.name.replace(/[^\w. -]+/g, "-"), told);
  }

  save() {
    const names = this.places.map((c) => this.book.columns[c]).map(([name, kind]) => (kind === "duration" ? "duration_s" : name));
    saveCsv(`${this.job ? this.job.title.replace(/\W+/g, "-") : "jobs"}.csv`, [distinct(names), ...this.rows.map((row) => this.places.map((c) => row[2][c]))]);
  }

  /** The metrics of its jobs, over each other. */
  drawCurves() {
    const charts = Object.entries(parse(this.model.get("curves"), {}));
    this.charts.show(new Map(charts.map(([name, lines]) => [name, lines.map(([label, steps, values]) => ({label, steps, values}))])));
    this.showDrawn();
  }

  /** Say of how many jobs the curves are, if not of all. */
  showDrawn() {
    const drawn = Math.max(0, ...[...this.charts.charts.values()].map((lines) => lines.length));
    put(this.charts.count, dotted(this.charts.charts.size > 1 && number(this.charts.charts.size), this.job && drawn < this.job.size && `curves of ${number(drawn)} of ${many(this.job.size, "job")}`));
  }

  // -- plot --------------------------------------------------------------------------------------------------------

  draw() {
    const plot = parse(this.model.get("plot"), null), n = this.n;
    n.plot.hidden = !plot;
    if (!plot) return;
    for (const key of ["x", "y", "by"]) {
      const options = key === "by" ? ["", ...plot.choices.by] : plot.choices[key];
      if (n[key].getRootNode().activeElement === n[key] && n[key].value === plot[key] || !isNew(n[key], [options, plot[key]])) continue;
      n[key].replaceChildren(...options.map((name) => h("option", {value: name, text: name || "nothing"})));
      n[key].value = plot[key];
    }
    n.byBox.hidden = !plot.choices.by.length;
    put(n.note, plot.note);
    const {columns, rows} = this.book, element = ([tag, attributes, ...children]) => svg(tag, attributes, ...children.map((child) => (typeof child === "string" ? child : element(child))));
    const texts = {trial: (name, value) => `${name} ${value}`, arg: (name, value) => `${name} = ${value}`, value: (name, value) => `${name}: ${value}`, note: (_, value) => value};
    const tip = ([, , cells]) => columns.flatMap(([name, kind], c) => (texts[kind] && ![null, ""].includes(cells[c]) ? [texts[kind](name, cells[c])] : [])).join("\n");
    n.picture.replaceChildren(...plot.shapes.map(element), ...plot.dots.map(([x, y, series, row]) => {
      const title = svg("title", {}, rows[row] ? tip(rows[row]) : ""), mark = plot.marks?.[series], left = `${100 * x}%`, top = `${100 - 100 * y}%`;
      return mark ? svg("svg", {x: left, y: top, overflow: "visible"}, element(mark), title) : svg("circle", {cx: left, cy: top, r: plot.radius, fill: plot.colours[series]}, title);
    }));
    n.picture.style.marginLeft = `${plot.left + 16}px`;
    n.picture.style.width = `calc(100% - ${plot.left + 48}px)`;
    n.picture.setAttribute("aria-label", `${plot.y} over ${plot.x}, ${plot.dots.length} points`);
    n.legend.hidden = !plot.series.length;
    const isAll = n.all.getAttribute("aria-pressed") === "true", direction = this.job?.direction, lines = isAll && parallel(columns, rows, Math.max(280, n.plot.clientWidth - 2), plot.lines, direction);
    n.lines.hidden = !lines;
    n.picture.toggleAttribute("hidden", Boolean(lines));
    n.lines.replaceChildren(...(lines ? [lines] : []));
    if (lines) n.legend.hidden = !direction;
    const key = (text, colour, mark) => h("span", null, mark ? svg("svg", {width: 14, height: 10, viewBox: "-7 -5 14 10"}, element(mark)) : h("i", {style: `background:${colour}`}), text);
    n.legend.replaceChildren(...(lines ? [key("best tenth", plot.lines[1]), key("others", plot.lines[0])]
      : [h("span", {class: "muted", text: plot.by}), ...plot.series.map((text, i) => key(text, plot.colours[i], plot.marks?.[i]))]));
  }
}

export default {
  initialize({model}) {
    if (typeof model.save_changes === "function") bookOf(model);
  },
  render: (props) => mount(props, (model, el) => new BatchCard(model, el)),
};
