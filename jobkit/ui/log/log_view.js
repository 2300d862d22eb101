// The page of one job's log (log_view.py): all of its lines, a search over all of them, and links to lines.

const LEAST = ["", "warning", "error"];

class LogView extends View {
  constructor(model, el) {
    super(model);
    const {n} = this;
    Object.assign(this, {hits: null, hit: -1, words: "", epoch: 0, unseen: 0, job: null});
    this.lines = new LogReader((asked) => ask(model, "log-lines", asked), () => this.refresh());
    this.lines.renumbered = () => {
      this.toEnd = this.list.isAtEnd;
      if (this.words || this.lines.level) this.search();
    };
    this.list = new VirtualList({row: (i) => this.rowOf(i), key: (i) => this.keyOf(i), "aria-label": "Lines of the log",
      shown: (from, to) => this.lines.need(from, to), onwheel: (event) => this.scrolls(event.deltaY < 0), ontouchmove: () => this.scrolls(true), onpointerdown: () => this.scrolls(true),
      onkeydown: ({key}) => { if (key === "End") this.follow(true); else this.scrolls(["ArrowUp", "PageUp", "Home"].includes(key)); }});
    Object.assign(n, spans({chip: "chip", args: "args mono muted", count: "count muted", found: "found muted"}));
    n.found.setAttribute("role", "status");
    n.title = h("h2", {class: "title"});
    n.open = h("button", {class: "btn small", text: "Open job", onclick: () => ask(model, "open", {id: this.job?.id})});
    n.find = h("input", {class: "find", type: "search", placeholder: "Find in the whole log", "aria-label": "Find in the whole log", maxlength: 200, spellcheck: "false",
      oninput: () => this.searchSoon(), onkeydown: (event) => { if (event.key === "Enter") { event.preventDefault(); this.go(event.shiftKey ? -1 : 1); } }});
    n.before = h("button", {class: "btn quiet small", title: "Previous hit (Shift+Enter)", "aria-label": "Previous hit", onclick: () => this.go(-1)}, icon("up"));
    n.after = h("button", {class: "btn quiet small", title: "Next hit (Enter)", "aria-label": "Next hit", onclick: () => this.go(1)}, icon("down"));
    this.level = radios([["", "All"], ["warning", "Warnings", "Only warnings and errors"], ["error", "Errors", "Only errors"]], (level) => this.narrow(level), {"aria-label": "Lines to show", class: "segments small"});
    n.since = this.toggle("Since start", "Times from the start of the job", "since", () => this.again());
    n.wrap = this.toggle("Wrap", "Wrap long lines", "wrap", (on) => { this.list.el.classList.toggle("wrap", on); this.again(); });
    n.follow = h("button", {class: "btn quiet small", text: "Follow", hidden: true, onclick: () => this.follow(!this.list.isFollowing)});
    n.copy = h("button", {class: "btn quiet small", title: "Copy the log, or the lines that are marked", "aria-label": "Copy", onclick: () => this.copy()}, icon("copy"));
    n.save = h("button", {class: "btn quiet small", title: "Download the log", "aria-label": "Download the log", onclick: () => this.fetchAll("save")}, icon("download"));
    n.pill = h("button", {class: "pill", hidden: true, onclick: () => this.follow(true)});
    n.nothing = h("p", {class: "nothing muted", hidden: true});
    this.root = h("section", {class: "jk jk-log", "aria-label": "Log"},
      h("header", {class: "head"}, n.chip, n.title, n.args, h("span", {class: "spring"}), n.count, n.open),
      h("div", {class: "tools", role: "toolbar", "aria-label": "Log"}, n.find, n.found, n.before, n.after, this.level.el, h("span", {class: "spring"}), n.follow, n.since, n.wrap, n.copy, n.save),
      h("div", {class: "pane"}, this.list.el, n.nothing, n.pill));
    this.list.el.classList.toggle("wrap", this.is("wrap"));
    this.appear(el);
    this.stops.push(() => this.list.close(), () => this.lines.close(), () => clearTimeout(this.soon), () => clearTimeout(this.tailing));
    this.on({snapshot: () => this.show(), news: () => this.tailSoon(), page: () => this.take(), hits: () => this.takeHits(), file: () => this.takeFile(), wanted: () => this.obey(), refused: () => this.showCount()});
    this.listen(globalThis, "hashchange", () => this.jump());
    this.listen(document, "keydown", (event) => this.key(event));
    this.showFound();
    this.obey();
    this.show();
    ask(model, "hello", {v: this.job?.v});
  }

  toggle(text, title, name, fn) {
    const button = h("button", {class: "btn quiet small", text, title, "aria-pressed": String(this.is(name)), onclick: () => {
      const on = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", String(on));
      store(`jobkit-log-${name}`, on ? "on" : "");
      fn(on);
    }});
    return button;
  }

  is(name) { return stored(`jobkit-log-${name}`) === "on"; }

  // -- the job ---------------------------------------------------------------------------------------------------------

  show() {
    const job = parse(this.model.get("snapshot"), null), n = this.n, before = this.job;
    this.root.classList.toggle("empty", !job?.id);
    this.root.classList.toggle("missing", Boolean(job?.missing));
    if (!job?.id) return this.clear();
    this.job = job;
    if (job.now) this.skew = Date.parse(job.now) - Date.now();
    const face = job.face || job.state;
    this.root.dataset.face = face;
    if (isNew(n.chip, face)) n.chip.replaceChildren(icon(face), WORDS[face] || face);
    put(n.title, job.title || job.task || "");
    put(n.args, job.args || "");
    n.open.hidden = Boolean(job.missing);
    n.follow.hidden = job.state !== "running";
    if (before?.id !== job.id) {
      this.clear();
      this.job = job;
      this.lines.tail();
    } else if (before.attempts?.length !== job.attempts?.length) this.again();
    if (before?.state !== job.state) this.tailSoon();
    if (["queued", "scheduled"].includes(before?.state) && this.isRunning) this.list.isFollowing = true;
    this.list.isFollowing &&= job.state === "running";
    this.showCount();
  }

  clear() {
    this.job = null;
    this.isOpened = false;
    this.lines.forget();
    this.again();
  }

  get isRunning() { return this.job?.state === "running"; }

  /** The server answers again, or does not. */
  onPulse() { this.tailSoon(); }

  /** Ask for new lines, a few times a second at most. */
  tailSoon() {
    this.tailing ??= setTimeout(() => {
      Object.assign(this, {tailing: null, tailedAt: Date.now()});
      if (this.job?.id && !this.job.missing) this.lines.tail();
    }, Math.max(0, 250 - (Date.now() - (this.tailedAt || 0))));
  }

  // -- lines -----------------------------------------------------------------------------------------------------------

  take() {
    const told = parse(this.model.get("page"), {}), before = this.lines.total;
    if (!this.lines.take(told)) return;
    if (told.problem) put(this.n.found, told.problem);
    if (!this.isOpened) return this.opened();
    if (this.toEnd) this.list.el.scrollTop = this.list.el.scrollHeight;
    this.toEnd = false;
    const news = this.lines.total - before;
    if (news <= 0) return;
    for (const line of told.lines) this.note(line, before);
    if (this.list.isFollowing || !this.isRunning) return;
    this.unseen += news;
    this.n.pill.hidden = false;
    this.n.pill.replaceChildren(many(this.unseen, "new line"), icon("down"));
  }

  /** The first lines are here: go to what the address names, to the first error of a failed job, or to the end of a running one. */
  opened() {
    this.isOpened = true;
    const isNarrowed = this.words || this.lines.level;
    if (isNarrowed) this.search();
    if (this.jump()) return;
    if (this.job.state === "failed" && !isNarrowed) this.ask({level: "error", at: "first"});
    this.follow(this.isRunning);
  }

  /** A line has come behind line `last`: it may be one of those that are shown, or a hit. */
  note(line, last) {
    if (line.n <= last) return;
    const level = this.lines.level, isShown = weight(line) >= LEAST.indexOf(level) + (level ? 1 : 0);
    if (level && isShown) this.lines.numbers?.push(line.n);
    if (this.hits && isShown && this.words && line.text.toLowerCase().includes(this.words)) { this.hits.numbers.push(line.n); this.hits.matched += 1; }
    this.showFound();
    if (level) this.refresh();
  }

  refresh() {
    this.list.update(this.lines.count);
    this.list.el.style.setProperty("--digits", String(this.lines.total).length);
    this.showCount();
  }

  /** Make all rows anew: they look different now. */
  again() { this.epoch += 1; this.refresh(); }

  keyOf(i) {
    const n = this.lines.numberAt(i), [from, to] = this.marked;
    return `${this.epoch} ${n} ${this.lines.lines.has(n)} ${i > 0 && this.lines.lines.has(this.lines.numberAt(i - 1))} ${n >= from && n <= to} ${this.hits?.numbers[this.hit] === n}`;
  }

  rowOf(i) {
    const n = this.lines.numberAt(i), line = this.lines.at(i), before = i ? this.lines.at(i - 1) : null, [from, to] = this.marked, {job} = this;
    const place = {class: "item", role: "listitem", "aria-posinset": i + 1, "aria-setsize": this.lines.count};
    if (!line) return h("div", place, h("div", {class: "line waits", "data-n": n}, h("span", {class: "num", text: n})));
    const link = {href: `#L${n}`, tabindex: -1, title: "Link to this line; with Shift to all lines up to it", onclick: (event) => this.point(event, n)};
    const start = this.n.since.getAttribute("aria-pressed") === "true" ? Date.parse(job.attempts?.[0]?.started_at || job.started_at || "") : null;
    const row = logLine(line, {link, words: this.words, start: Number.isNaN(start) ? null : start});
    row.classList.toggle("marked", n >= from && n <= to);
    row.classList.toggle("current", this.hits?.numbers[this.hit] === n);
    const missing = !this.lines.numbers && this.lines.dropped > 0 && i === this.lines.gapAfter;
    return h("div", place, missing && h("div", {class: "gap muted", text: `… ${many(this.lines.dropped + this.lines.hidden, "line")} not kept …`}),
      (before || !i) && attemptRows(job.attempts || [], before, line), row);
  }

  showCount() {
    const {lines, n} = this, refused = this.model.get("refused"), {job} = this;
    const kept = lines.dropped ? `, ${number(lines.dropped)} not kept` : "";
    put(n.count, refused || (lines.numbers ? `${number(lines.count)} of ${many(lines.total, "line")}` : lines.isKnown ? `${many(lines.total, "line")}${kept}` : ""));
    const said = !job ? "The log of a job opens from its card" : job.missing ? job.alert?.text || "" : !lines.isKnown || lines.count ? "" : lines.level ? `No ${lines.level === "error" ? "errors" : "warnings or errors"}` : ["queued", "scheduled"].includes(job.state) ? "The job has not started yet" : this.isRunning ? "Nothing printed yet" : "This job has printed nothing";
    put(n.nothing, said);
    n.nothing.hidden = !said;
    put(n.follow, this.list.isFollowing ? "Pause" : "Follow");
  }

  follow(on) {
    Object.assign(this.list, {isFollowing: on && this.isRunning});
    if (on) {
      this.unseen = 0;
      this.n.pill.hidden = true;
      this.list.el.scrollTop = this.list.el.scrollHeight;
    }
    this.refresh();
  }

  /** A scroll by hand begins: the end is followed only while it is in sight. */
  scrolls(isUp) {
    if (isUp) this.list.isFollowing = false;
    clearTimeout(this.scrolling);
    this.scrolling = setTimeout(() => this.isRunning && this.follow(this.list.isAtEnd), 250);
  }

  // -- search and levels -------------------------------------------------------------------------------------------------

  /** Show what the address of the page asks for. */
  obey() {
    const {q = "", level = ""} = parse(this.model.get("wanted"), {});
    if (this.n.find.value !== q) this.n.find.value = q;
    const isOther = this.words !== q.toLowerCase() || this.lines.level !== level;
    this.words = q.toLowerCase();
    this.level.mark(LEAST.includes(level) ? level : "");
    if (!isOther) return;
    this.lines.narrow(LEAST.includes(level) ? level : "");
    if (this.isOpened) this.search();
  }

  searchSoon() {
    clearTimeout(this.soon);
    this.soon = setTimeout(() => {
      this.words = this.n.find.value.toLowerCase();
      ask(this.model, "wanted", {q: this.n.find.value, level: this.lines.level});
      this.search();
    }, 250);
  }

  narrow(level) {
    const n = this.lines.numberAt(Math.floor(this.list.share * this.lines.count));
    clearTimeout(this.soon);
    this.words = this.n.find.value.toLowerCase();
    this.level.mark(level);
    this.lines.narrow(level);
    this.back = n;
    ask(this.model, "wanted", {q: this.n.find.value, level});
    this.search();
  }

  /** Count the hits of the words and find the lines of the level in the whole log, which the server reads part by part. */
  search() {
    this.hits = null;
    this.hit = -1;
    put(this.n.found, this.words ? "searching…" : "");
    this.showFound();
    this.again();
    if (this.lines.level) this.ask({level: this.lines.level, search: "", at: "level"});
    else if (this.words) this.ask({search: this.words, level: "", at: "words"});
    else if (this.back) this.list.show(this.lines.placeOf(this.back), 0.5);
  }

  /** One question for places; the answer to an earlier one is stale. */
  ask(asked, sofar = {numbers: [], matched: 0}) {
    this.question = {...asked, sofar, name: String(++LogReader.asked)};
    const {level = "", search = "", after = 0, name} = this.question;
    if (!ask(this.model, "log-hits", {name, level, search, after})) put(this.n.found, "the server does not answer");
  }

  takeHits() {
    const told = parse(this.model.get("hits"), {}), {question} = this;
    if (!question || told.name !== question.name) return;
    if (told.problem) return put(this.n.found, told.problem);
    const {sofar} = question;
    sofar.matched += told.matched;
    for (const n of told.numbers) if (sofar.numbers.length < 100_000) sofar.numbers.push(n);
    if (told.cursor && question.at !== "first") this.ask({...question, after: told.cursor}, sofar);
    else if (told.cursor && !sofar.numbers.length) return this.ask({...question, after: told.cursor}, sofar);
    else this.question = null;
    if (question.at === "first") {
      if (sofar.numbers.length && !this.isRunning) this.list.show(this.lines.placeOf(sofar.numbers[0]));
    } else if (question.at === "level") {
      this.lines.numbers = sofar.numbers;
      this.again();
      if (this.back && sofar.numbers.length) { this.list.show(this.lines.placeOf(this.back), 0.5); this.back = 0; }
      if (!told.cursor && this.words) this.ask({search: this.words, level: this.lines.level, at: "words"});
    } else {
      this.hits = {...sofar, isAll: !told.cursor};
      if (this.hit < 0 && sofar.numbers.length) this.pick(this.nearest());
      this.showFound();
    }
  }

  /** The first hit that is in sight or behind it, else the first one. */
  nearest() {
    const here = this.lines.numberAt(Math.min(this.lines.count - 1, Math.max(0, Math.floor(this.list.share * this.lines.count - 20)))), at = this.hits.numbers.findIndex((n) => n >= here);
    return Math.max(0, at);
  }

  go(step) {
    const all = this.hits?.numbers || [];
    if (all.length) this.pick((this.hit + step + all.length) % all.length);
  }

  pick(at) {
    this.hit = at;
    const place = this.lines.placeOf(this.hits.numbers[at]);
    this.list.isFollowing = false;
    if (!this.list.isVisible(place)) this.list.show(place);
    this.list.draw();
    this.showFound();
  }

  showFound() {
    const {hits, n} = this, count = hits?.numbers.length || 0;
    n.before.hidden = n.after.hidden = !count;
    if (!hits) return;
    const at = count ? `${number(this.hit + 1)} of ` : "", more = hits.isAll ? "" : ", searching…";
    put(n.found, `${at}${hits.matched ? many(hits.matched, "line") : "no hits"}${more}`);
  }

  // -- links to lines: `#L182`, `#L182-L190` -------------------------------------------------------------------------------

  /** First and last of the lines that the address names; nothing is between them for none. */
  get marked() {
    const [, from, to] = location.hash.match(/^#L(\d{1,9})(?:-L?(\d{1,9}))?$/) || [];
    return from ? [Number(from), Math.max(Number(from), Number(to || from))] : [1, 0];
  }

  point(event, n) {
    if (event.ctrlKey || event.metaKey || event.button) return;
    event.preventDefault();
    const [from, to] = this.marked, isRange = event.shiftKey && to, ends = isRange ? [Math.min(from, n), Math.max(from, n)] : [n, n];
    history.replaceState(history.state, "", `${location.pathname}${location.search}#L${ends[0]}${ends[1] > ends[0] ? `-L${ends[1]}` : ""}`);
    if (isRange) getSelection()?.removeAllRanges();
    this.list.draw();
  }

  /** Go to the lines that the address names; return whether it names any. */
  jump() {
    const [from, to] = this.marked;
    if (!to || !this.isOpened) return false;
    this.list.show(this.lines.placeOf(from));
    this.follow(false);
    return true;
  }

  // -- all of it -----------------------------------------------------------------------------------------------------------

  /** The marked lines, or the whole log. */
  async copy() {
    const [from, to] = this.marked, texts = [];
    for (let n = from; n <= to; n++) {
      const line = this.lines.lines.get(n);
      if (!line) return this.fetchAll("copy");
      texts.push(line.text);
    }
    if (!texts.length) return this.fetchAll("copy");
    await copyText(`${texts.join("\n")}\n`, this.n.copy);
  }

  fetchAll(what) {
    this.wanted = what;
    this.n[what].disabled = true;
    if (!ask(this.model, "whole-log", {})) this.n[what].disabled = false;
  }

  async takeFile() {
    const told = parse(this.model.get("file"), null), what = this.wanted;
    if (!told || !what) return;
    this.model.set("file", "");
    this.model.save_changes();
    this.wanted = "";
    this.n[what].disabled = false;
    if (!told.base64) return put(this.n.found, told.problem || "");
    if (what === "save") return saveFile(`${this.job.id}.log`, told);
    const [from, to] = this.marked, text = await textOf(told);
    await copyText(to ? `${text.split("\n").slice(from - 1, to).join("\n")}\n` : text, this.n.copy);
  }

  key(event) {
    if (!this.root.offsetParent || isTyping(event) || !this.job) return;
    const press = {"/": () => this.n.find.focus(), w: () => this.n.wrap.click(), t: () => this.n.since.click(), f: () => this.isRunning && this.n.follow.click(),
      e: () => this.narrow(LEAST[(LEAST.indexOf(this.lines.level) + 1) % 3]), j: () => this.go(1), k: () => this.go(-1)}[event.key];
    if (!press) return;
    event.preventDefault();
    press();
  }

  tick() {}
}

export default {render: (props) => mount(props, (model, el) => new LogView(model, el))};
