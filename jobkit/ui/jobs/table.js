// Counters, search box and one page of jobs (table.py). Rows are made once and changed in place; new ones wait behind a
// pill while the pointer or the scroll position says that the user is reading. What is done to many is in bulk.js, the
// bars above them are in strip.js.

/** Column, its head, what it orders by, which end comes first, and its text, unless `fill` and `time` show it. */
const COLUMNS = [
  ["mark", "", "state", ""], ["name", "Job", "task", ""], ["state", "Progress", "progress", "-"],
  ["queue", "Queue", "queue", "", ({queue}) => queue], ["owner", "Owner", "owner", "", ({owner}) => owner],
  ["when", "Submitted", "submitted", "-"], ["time", "Duration", "took", "-"],
  ["worker", "Worker", "worker", "", ({worker}) => worker?.replace(/\.[0-9a-f]{6}$/, "")],  // host and process are enough to tell them apart
];

/** Ends that have no part in the usual picture. */
const OTHER_ENDS = ENDS.filter((end) => !["succeeded", "failed"].includes(end));

const COUNTERS = [
  ["", "All", ""],
  ["waiting", "Waiting", "queued"],
  ["running", "Running", "running"],
  ["failed", "Failed", "failed"],
  ["succeeded", "Succeeded", "succeeded"],
  ...OTHER_ENDS.map((end) => [end, WORDS[end], end]),
  ["asking", "Asking", "info"],
];

/** Counters that are shown only if there are some. */
const RARE = [...OTHER_ENDS, "asking"];

/** The word of a search for jobs in the archive. */
const IN_ARCHIVE = "in:archive";

/** Milliseconds that a tab is hidden before it counts as left. */
const HIDDEN_MS = 15000;

class Table extends View {
  constructor(model, el) {
    super(model);
    this.rows = new Map();  // id -> {data, el, ...nodes}
    this.waiting = [];
    this.arrived = [];  // deltas that are not shown yet
    this.bulk = new Bulk(this);
    this.box = new SearchBox(model, "jobs", () => this.bulk.clear());
    this.strip = new Strip(this);
    this.groups = GROUPS.map((Rows) => new Rows(this));
    this.home = new Home(this);
    this.fresh = 0;
    this.more = "";
    this.depth = 0;
    this.number = 0;  // of the last page or delta
    this.away = false;
    this.build();
    this.appear(el);
    this.on({page: () => this.load(), delta: () => this.receive(), selected: () => this.mark(), search: () => { this.showCounter(); this.strip.show(); this.showRange(); }, activity: () => this.strip.told(),
      order: () => this.showOrder(), work: () => this.bulk.told(), inside: () => this.groups.forEach((each) => each.told()), notice: () => this.showNotice()});
    this.listen(document, "visibilitychange", () => this.seen());
    this.listen(document, "keydown", (event) => this.key(event));
    this.stops.push(() => clearTimeout(this.hiddenTimer), () => this.box.stop(), () => cancelAnimationFrame(this.frame));
    this.showCounter();
    this.showOrder();
    this.bulk.told();
    this.strip.told();
    this.load();
    ask(model, "hello", {at: this.number});
  }

  /** A tab that was hidden for a while gets no updates; when shown, it gets the page as it is then. */
  seen() {
    clearTimeout(this.hiddenTimer);
    if (document.visibilityState === "hidden") {
      this.hiddenTimer = setTimeout(() => { this.isHidden = true; ask(this.model, "hidden"); }, HIDDEN_MS);
    } else if (this.isHidden) {
      this.isHidden = false;
      ask(this.model, "visible");
    }
  }

  build() {
    const {n} = this;
    n.counters = h("div", {class: "counters", role: "group", "aria-label": "Filter by state"}, COUNTERS.map(([name, word, face]) => {
      const count = h("b", {text: "–"});
      const button = h("button", {class: "counter", "data-face": face || "all", "data-name": name, "aria-pressed": "false", hidden: RARE.includes(name),
        onclick: () => this.filter(name)}, face && icon(face), count, h("span", {text: word}));
      button.count = count;
      return button;
    }));
    n.dense = h("button", {class: "btn quiet small dense", title: "Compact rows", text: "Compact", onclick: () => this.density(!this.root.classList.contains("compact"))});
    n.heads = COLUMNS.map(([name, word, by, first]) => {
      const button = h("button", {class: "by", title: `Order by ${word ? word.toLowerCase() : "state"}`, onclick: () => this.orderBy(by, first)}, h("span", {class: word ? "" : "sr", text: word || "State"}), h("i", {class: "arrow"}));
      if (name === "state") n.wide = button.firstChild;
      return h("span", {class: name, role: "columnheader", "data-by": by}, button);
    });
    n.head = h("div", {class: "row head", role: "row"},
      h("span", {class: "bare", role: "columnheader"}, (n.all = h("input", {type: "checkbox", class: "pick", "aria-label": "Select all on this page", onchange: () => this.bulk.choosePage(n.all.checked)}))), n.heads);
    n.body = h("div", {class: "rows", role: "rowgroup", tabindex: 0, "aria-label": "Jobs"});
    n.pill = h("button", {class: "pill", hidden: true, onclick: () => this.flushNew()});
    n.empty = h("div", {class: "nothing", hidden: true});
    n.range = h("span", {class: "muted"});
    n.first = h("button", {class: "btn small quiet", text: "First", onclick: () => this.turn("first")});
    n.newer = h("button", {class: "btn small", text: "Previous", onclick: () => this.turn("newer")});
    n.older = h("button", {class: "btn small", text: "Next", onclick: () => this.turn("older", {cursor: this.more})});
    n.archive = h("button", {class: "btn quiet small", hidden: !this.model.get("has_archive"), title: "Also jobs that are no longer kept here", text: "Archive", onclick: () => this.turnToArchive()});
    n.foot = h("div", {class: "foot"}, (this.sort = new SortSelect(COLUMNS, (by) => this.turnTo(by))).el, n.range, n.archive, h("span", {class: "spring"}), n.dense, n.first, n.newer, n.older);
    n.notice = h("div", {class: "notice", role: "status", hidden: true});
    n.live = h("span", {class: "sr", "aria-live": "polite"});
    this.root = h("section", {class: "jk jk-table", "aria-label": "Jobs"},
      h("div", {class: "filters"}, n.counters, h("span", {class: "spring"}), this.box.el),
      this.box.problem, n.notice, this.strip.el,
      h("div", {class: "grid", role: "table", "aria-label": "Jobs"}, n.head, (n.pane = h("div", {class: "pane"}, alone(n.pill), n.body, alone(n.empty)))), this.bulk.el, n.foot, n.live);  // what is chosen is below the rows, so that it moves none
    this.density(stored("jobkit-compact") === "1");
    this.columns = new Columns(this);
  }

  density(compact) {
    this.root.classList.toggle("compact", compact);
    this.n.dense.setAttribute("aria-pressed", String(compact));
    store("jobkit-compact", compact ? "1" : "0");
  }

  // -- data --------------------------------------------------------------------------------------------------------

  load() {
    const page = parse(this.model.get("page"), null);
    if (page) keepSelected(this.n.body, () => this.showPage(page));
    else this.showSkeleton();
  }

  showPage(page) {
    this.setNow(page.now);
    this.number = page.n || 0;
    this.more = page.more || "";
    this.depth = page.depth || 0;
    this.total = page.total;
    [this.kept, this.hint] = [page.kept, page.hint];
    this.searched = page.searched;
    this.problem = page.problem || "";
    this.waiting = [];
    this.fresh = 0;
    this.setAway(page.away);
    this.showNotice();
    const keep = new Set(page.rows.map((data) => data.id));
    for (const [id, row] of this.rows) if (!keep.has(id)) this.drop(id, row);
    const elements = page.rows.map((data) => {
      let row = this.rows.get(data.id);
      if (row) this.fill(row, data, false); else row = this.add(data);
      return row.el;
    });
    this.n.body.replaceChildren(...elements);
    this.home.begin(page);
    this.groups.forEach((each) => each.restore());
    this.root.classList.remove("loading");
    this.counts(page.counts);
    this.home.arrange();
    this.showPill();
    this.finish();
  }

  /** Show what arrives once per frame: a browser that falls behind shows many messages as one, instead of each in turn. */
  receive() {
    this.arrived.push(...parse(this.model.get("delta"), []));
    if (document.visibilityState === "hidden") this.change();
    else this.frame ??= requestAnimationFrame(() => this.change());
  }

  change() {
    this.frame = null;
    for (const delta of this.arrived.splice(0)) {
      if (delta.n <= this.number) continue;
      if (delta.n > this.number + 1) return ask(this.model, "hello", {at: this.number});  // some are missing
      this.number = delta.n;
      this.setNow(delta.now);
      if (delta.away != null) this.setAway(delta.away);
      for (const data of delta.rows || []) {
        const row = this.rows.get(data.id), at = this.waiting.findIndex((each) => each.id === data.id);
        if (row) this.fill(row, data, true);
        else if (at >= 0) this.waiting[at] = data;
      }
      for (const id of delta.gone || []) {
        if (this.rows.has(id)) this.drop(id, this.rows.get(id));
        this.waiting = this.waiting.filter((data) => data.id !== id);
      }
      for (const id of delta.left || []) {
        this.waiting = this.waiting.filter((data) => data.id !== id);
        if (this.rows.has(id)) this.leave(this.rows.get(id));
      }
      if (delta.fresh) this.fresh = delta.fresh;
      if (delta.new) {
        const known = new Set(this.waiting.map((data) => data.id));
        this.waiting.unshift(...delta.new.filter((data) => !known.has(data.id) && !this.rows.has(data.id)));
      }
      if (delta.order) this.home.order = delta.order;
      if ("more" in delta) this.more = delta.more;
      if ("counts" in delta) this.counts(delta.counts);
      if ("total" in delta) this.total = delta.total;
    }
    const reading = this.isRead();
    if (this.waiting.length && !reading) this.flushNew(); else this.showPill();
    if (this.home.order && !reading) this.home.arrange();
    this.finish();
  }

  setNow(now) { if (now) this.skew = Date.parse(now) - Date.now(); }

  /** True while the user works in it: nothing may move then. */
  isRead() { return this.n.body.scrollTop > 4 || (this.n.pane.matches(":hover") && this.rows.size > 0) || this.bulk.chosen.size > 0; }

  /** A row that does not match any more goes when the user is not reading; until then it is pale. */
  leave(row) {
    row.el.classList.add("left");
    row.leaving = true;
    clearTimeout(this.leaveTimer);
    this.leaveTimer = setTimeout(() => this.dropLeft(), 2500);
  }

  dropLeft() {
    if (this.isRead()) { this.leaveTimer = setTimeout(() => this.dropLeft(), 1000); return; }
    for (const [id, row] of [...this.rows]) if (row.leaving) this.drop(id, row);
    this.home.arrange();
    this.finish();
  }

  flushNew() {
    if (this.fresh) { this.fresh = 0; this.turn("refresh"); return; }
    const fresh = this.waiting.splice(0).slice(0, 100).reverse();
    for (const data of fresh) {
      if (this.rows.has(data.id)) continue;
      const row = this.add(data), above = this.groups.map((each) => each.open.get(data.below)).find(Boolean) || this.rows.get(data.below);
      above ? above.el.after(row.el) : this.n.body.prepend(row.el);
      row.el.classList.add("fresh");
    }
    this.home.arrange();
    while (this.rows.size > 100) {
      const last = this.n.body.lastElementChild;
      this.drop(last.dataset.id, this.rows.get(last.dataset.id));
    }
    this.n.body.scrollTop = 0;
    this.showPill();
    this.finish();
  }

  showPill() {
    const count = this.waiting.length + this.fresh;
    this.n.pill.hidden = !count;
    if (count) put(this.n.pill, `${many(count, "new job")} ↑`);
  }

  add(data) {
    const n = spans({icon: "glyph", args: "mono muted", note: "note", word: "sr"});
    n.pick = h("input", {type: "checkbox", class: "pick", "aria-label": "Select this job", tabindex: -1, onclick: (event) => { event.stopPropagation(); this.bulk.choose(data.id, n.pick.checked, event.shiftKey); }});
    n.title = h("b");
    n.bar = h("span", {class: "bar"}, (n.fill = h("i")));
    n.spark = svg("svg", {class: "spark", viewBox: "0 0 100 20", preserveAspectRatio: "none", role: "img"});
    const inside = {mark: [n.icon, n.word], name: [n.title, " ", n.args], state: [n.bar, n.spark, n.note]};
    const cells = COLUMNS.map(([name]) => (n[name] = h("span", {class: name, role: "cell"}, ...(inside[name] || []))));
    n.act = h("button", {class: "btn small", tabindex: -1, onclick: (event) => { event.stopPropagation(); this.actOn(data.id, isLive(row.data) ? "c" : "r"); }});  // the keys do the same
    const el = h("div", {class: "row", role: "row", tabindex: -1, "data-id": data.id, onclick: (event) => this.clicked(data.id, event), onanimationend: (event) => event.currentTarget.classList.remove("flash")},
      h("span", {class: "bare", role: "cell"}, n.pick), cells, h("span", {class: "acts", role: "cell"}, n.act));
    const row = {el, n, data: {}};
    this.rows.set(data.id, row);
    this.fill(row, data, false);
    return row;
  }

  fill(row, data, flash) {
    const {n, el} = row, before = row.data;
    row.data = data;
    if (row.leaving) { row.leaving = false; el.classList.remove("left"); }
    if (before.face !== data.face || before.cancelling !== data.cancelling) {
      el.dataset.face = data.face;
      n.icon.replaceChildren(icon(data.face));
      n.icon.title = data.cancelling ? "Cancelling" : WORDS[data.face] || data.face;
      put(n.word, n.icon.title);
      if (flash) el.classList.add("flash");  // to its end, see `add`; a restart would lay out the whole table for each row
    }
    put(n.title, data.name);
    put(n.args, data.args || "");
    n.name.title = [data.name !== data.task ? `${data.name} (${data.task})` : data.task, data.args, data.message].filter(Boolean).join("\n");
    for (const [name, , , , text] of COLUMNS) if (text) { put(n[name], String(text(data) ?? "")); n[name].title = data[name] ?? ""; }
    put(n.act, isLive(data) ? "Cancel…" : data.face === "succeeded" ? "Run again" : "Retry");
    n.act.disabled = Boolean(data.cancelling);
    const running = data.face === "running", stopped = UNSUCCESSFUL.includes(data.face) && data.progress != null;
    n.bar.hidden = !running || (data.asks && data.progress == null);
    n.bar.className = `bar${data.cancelling ? " cancelling" : running && !data.asks && data.progress == null ? data.typical_s ? " usual" : " unknown" : ""}`;
    n.fill.style.width = data.progress != null && !data.cancelling ? `${data.progress * 100}%` : "";
    showSpark(n.spark, data.spark, data.metric);
    n.note.title = data.note || data.message || "";
    n.note.className = `note${data.face === "failed" ? " bad" : data.stuck ? " warn" : running ? "" : " muted"}`;
    row.stopped = stopped;
    if (isGroup(data.id)) this.groups.forEach((each) => each.fill(row));
    this.time(row);
  }

  /** Update the texts that change with the time alone. */
  time(row) {
    const {n, data} = row;
    const running = data.face === "running", ended = Boolean(data.finished_at);
    put(n.when, ago(this.since(data.submitted_at)));
    const times = [["submitted", data.submitted_at], ["due", data.due_at], ["started", data.started_at], ["ended", data.finished_at]].filter(([, iso]) => iso);
    n.when.title = times.map(([word, iso]) => `${word} ${exact(iso)}`).join("\n");
    put(n.time, running ? ticking(this.since(data.started_at) || 0) : ended && data.started_at ? duration((Date.parse(data.finished_at) - Date.parse(data.started_at)) / 1000) : "");
    let note = data.note || "";
    if (running) {
      note = data.cancelling ? "cancelling" : data.progress != null ? `${Math.floor(data.progress * 100 + 1e-9)} %` : "";
      const left = data.cancelling || data.eta_s == null ? "" : timeLeft(data.eta_s).replace(/^about /, "").replace("a few seconds left", "a few s left");
      if (left) note += ` · ${left}`;
      if (!note && data.typical_s && !data.asks) {
        n.fill.style.width = usualWidth(this.since(data.started_at) || 0, data.typical_s);
        note = `usually ${duration(data.typical_s)}`;
      }
      if (data.message && !data.cancelling) note = dotted(note, data.message);
    } else if (data.face === "queued") note = dotted(startText(data, this.now(), false), data.message);  // what holds it back
    else if (data.face === "scheduled") note = data.message || (data.due_at ? `starts ${dueText(data, this.now())}` : "waits for results of others");
    else if (data.face === "retrying") note = `attempt ${(data.attempt || 1) + 1} starts ${dueText(data, this.now())}`;
    if (data.face === "failed" && row.stopped && data.progress < 1) note = `${Math.floor(data.progress * 100)} % · ${note}`;
    if (isGroup(data.id)) note = dotted(data.note, data.face === "queued" && note);
    put(n.note, note || (data.face === "queued" ? WORDS.queued : ""));
  }

  tick() {
    for (const row of this.rows.values()) this.time(row);
  }

  drop(id, row) {
    this.groups.forEach((each) => each.close(id));
    row.el.remove();
    this.rows.delete(id);
    this.bulk.chosen.delete(id);
  }

  finish() {
    const n = this.n, count = this.rows.size;
    this.strip.show();
    n.empty.hidden = count > 0;
    n.body.hidden = n.head.hidden = count === 0;
    n.foot.hidden = !count && !this.depth && this.searched == null && n.archive.hidden;
    n.first.hidden = n.newer.hidden = n.older.hidden = !this.more && !this.depth;
    n.newer.disabled = n.first.disabled = !this.depth;
    n.older.disabled = !this.more;
    this.showRange();
    put(n.wide, this.home.wideHead());
    this.showOrder();
    if (!count) this.showEmpty();
    this.mark();
    this.bulk.show();
  }

  showRange() { put(this.n.range, this.rangeText(this.rows.size)); }

  rangeText(count) {
    if (this.searched != null) return `Searching the newest ${number(this.searched)}${this.kept == null ? "" : ` of ${number(this.kept)}`} jobs…`;
    const some = this.total == null ? (this.more ? "many jobs" : "") : many(this.total, "job") + (this.isArchive() ? " in the archive" : "");
    return dotted(this.depth ? `Page ${number(this.depth + 1)}` : this.more ? `${number(count)} shown` : "", some);
  }

  turn(action, more) {
    this.bulk.clear();
    this.n.body.scrollTop = 0;
    ask(this.model, action, more);
  }

  /** The counters: of the jobs that match, whatever state the search asks for; null if that is not known. */
  counts(counts) {
    const of = (...names) => names.reduce((sum, name) => sum + (counts?.[name] || 0), 0);
    this.totals = counts;
    const totals = {"": of(...Object.keys(counts || {})) - of("asking"), waiting: of("queued", "scheduled")};
    for (const button of this.n.counters.children) {
      const {name} = button.dataset;
      const count = totals[name] ?? of(name);
      put(button.count, counts ? number(count) : "–");
      button.classList.toggle("zero", !count);
      button.hidden = RARE.includes(name) && !count && this.chosenCounter() !== name;
    }
    this.home.count();
  }

  showSkeleton() {
    this.root.classList.add("loading");
    if (!this.n.body.childElementCount) this.n.body.append(...ghostRows());
  }

  showEmpty() {
    const searching = Boolean(this.model.get("search")), problem = this.model.get("problem"), waits = this.searched != null;
    if (isNew(this.n.empty, [problem, waits, searching, this.hint])) this.n.empty.replaceChildren(...(problem || waits || searching ? nothingFound(this, problem, waits) : firstSteps(this)));
  }

  // -- notices, the open job ---------------------------------------------------------------------------------------

  /** Redis does not answer, or does so again. */
  setAway(away) {
    if (away !== this.away) { this.away = away; this.showNotice(); }
  }

  showNotice() {
    const {away} = this, text = away
      ? `Redis does not answer. What you see is from ${clock(new Date()).slice(0, 8)}; it goes on by itself when the connection is back.` : this.model.get("notice") || this.problem;
    this.n.notice.hidden = !text;
    this.n.notice.dataset.level = away ? "warning" : "error";
    this.root.classList.toggle("stale", away);
    this.n.notice.replaceChildren(icon("warn"), text || "");
  }

  clicked(id, event) {
    if (isGroup(id) || !this.model.get("may_act") || !(event.shiftKey || event.ctrlKey || event.metaKey)) return this.open(id);
    event.preventDefault();
    getSelection()?.removeAllRanges();
    this.bulk.choose(id, event.shiftKey || !this.bulk.chosen.has(id), event.shiftKey);
  }

  open(id) { ask(this.model, "open", {id: this.model.get("selected") === id ? "" : id}); }

  mark() {
    const selected = this.model.get("selected");
    for (const [id, row] of this.rows) {
      row.el.classList.toggle("selected", id === selected);
      if (id === selected) row.el.setAttribute("aria-current", "true"); else row.el.removeAttribute("aria-current");
    }
    this.root.classList.toggle("beside", Boolean(selected));
  }

  // -- order -------------------------------------------------------------------------------------------------------

  orderBy(by, first) {
    const now = this.ordered(), wanted = first + by, other = first ? by : `-${by}`;
    this.turnTo(now === wanted ? other : now === "submitted" && by === now ? "" : wanted);  // the third click: home again
  }

  turnTo(order) { this.bulk.clear(); ask(this.model, "view", {order}); }
  ordered() { return this.model.get("order") || (this.home.order ? "" : "-submitted"); }

  showOrder() {
    const now = this.ordered();
    this.sort.show(this.model.get("order"));
    for (const head of this.n.heads) {
      const is = now.replace("-", "") === head.dataset.by;
      head.setAttribute("aria-sort", is ? (now.startsWith("-") ? "descending" : "ascending") : "none");
    }
  }

  // -- search ------------------------------------------------------------------------------------------------------

  filter(name) {
    const words = searchWords(this.model.get("search")).filter((word) => !word.startsWith("state:") && word !== "is:asking");
    const before = this.chosenCounter();
    if (!name && this.model.get("order")) ask(this.model, "view", {order: ""});  // home again
    if (name && name !== before) words.unshift(name === "asking" ? "is:asking" : `state:${name}`);
    this.box.ask(words.join(" "));
  }

  /** Turn between the jobs that are kept here and those in the archive. */
  turnToArchive() {
    const words = searchWords(this.model.get("search")).filter((word) => word !== IN_ARCHIVE);
    this.box.ask((this.isArchive() ? words : [...words, IN_ARCHIVE]).join(" "));
  }

  isArchive() { return searchWords(this.model.get("search")).includes(IN_ARCHIVE); }

  chosenCounter() {
    const found = searchWords(this.model.get("search")).find((word) => word.startsWith("state:") || word === "is:asking");
    return found ? found.replace(/^(state|is):/, "") : "";
  }

  showCounter() {
    const counter = this.chosenCounter();
    for (const button of this.n.counters.children) button.setAttribute("aria-pressed", String(button.dataset.name === counter));
    this.n.archive.setAttribute("aria-pressed", String(this.isArchive()));
  }

  // -- keyboard ----------------------------------------------------------------------------------------------------

  key(event) {
    if (!this.root.isConnected || !this.root.offsetParent || event.ctrlKey || event.metaKey || event.altKey) return;
    const focus = focused(), typing = isTyping(event);
    if (this.box.key(event)) return;
    if (event.key === "Escape" && this.bulk.escape()) return;
    if (event.key === "Escape" && this.model.get("selected") && !typing) return void ask(this.model, "open", {id: ""});
    if (typing) return;
    const rows = [...this.n.body.querySelectorAll(":scope > .row")], at = rows.indexOf(focus?.closest?.(".row"));
    const here = at >= 0 ? at : rows.findIndex((el) => el.dataset.id === this.model.get("selected"));
    const inTable = focus && this.root.contains(focus);
    if (event.key === "j" || (event.key === "ArrowDown" && inTable)) this.focusRow(rows[Math.min(rows.length - 1, here + 1)], event);
    else if (event.key === "k" || (event.key === "ArrowUp" && inTable)) this.focusRow(rows[Math.max(0, here - 1)], event);
    else if (event.key === "Enter" && at >= 0 && focus.classList.contains("row")) this.open(rows[at].dataset.id);
    else if ("rc".includes(event.key) && at >= 0 && !this.model.get("selected") && this.model.get("may_act")) this.actOn(rows[at].dataset.id, event.key);
    else if ((event.key === "x" || event.key === " ") && at >= 0 && this.model.get("may_act") && !isGroup(rows[at].dataset.id)) {
      event.preventDefault();
      const id = rows[at].dataset.id;
      this.bulk.choose(id, !this.bulk.chosen.has(id), event.shiftKey);
    }
  }

  /** `r` and `c` on a row while no card is open: with one, they are the card's. Cancelling asks, as a selection does. */
  actOn(id, key) {
    if (isGroup(id)) return this.open(id);
    const live = isLive(this.rows.get(id).data);
    if (key === "r" && !live) ask(this.model, "retry", {ids: [id]});
    if (key === "c" && live) {
      this.bulk.clear();
      this.bulk.choose(id, true);
      this.bulk.begin("cancel");
    }
  }

  focusRow(el, event) {
    if (!el) return;
    event.preventDefault();
    el.focus({preventScroll: true});
    el.scrollIntoView({block: "nearest"});
    // With a job open, moving on shows the next one, as in a mail program.
    if (this.model.get("selected") && el.dataset.id !== this.model.get("selected")) ask(this.model, "open", {id: el.dataset.id});
  }
}

/** In a table nothing may stand but rows of cells: anything else gets a row and a cell without a box. */
function alone(el) { return h("div", {class: "bare", role: "row"}, h("div", {class: "bare", role: "cell"}, el)); }

export default {render: (props) => mount(props, (model, el) => new Table(model, el))};
