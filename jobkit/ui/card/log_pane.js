// The log of a job card: its newest lines as they come, pages of older ones, search and levels over all of it, and a line
// that the page's address names. What the browser does not have, the server reads (downloads.py).

const LOG_ROWS = 2000;
const PAGE_ROWS = 500;
const LEAST = ["", "info", "warning", "error"];

/** The log of a model. */
const logOf = (model) => keptOf(model, {lines: [], total: 0, dropped: 0}, (log) => ({
  log() {
    const data = parse(model.get("log"), {});
    Object.assign(log, {lines: data.lines || [], total: data.total || 0, dropped: data.dropped || 0});
    log.views.forEach((view) => view.show(true));
  },
  log_append() {
    const parts = [parse(model.get("log_append"), [])].flat(), data = parts[parts.length - 1] || {};
    const last = log.lines.length ? log.lines[log.lines.length - 1].n : 0;
    const fresh = parts.flatMap((part) => part.lines || []).filter((line) => line.n > last);
    if (!fresh.length) return;
    if (log.lines.length && fresh[0].n > last + 1) ask(model, "log");
    log.lines.push(...fresh);
    if (log.lines.length > LOG_ROWS) log.lines.splice(0, log.lines.length - LOG_ROWS);
    Object.assign(log, {total: data.total || log.total, dropped: data.dropped || 0});
    log.views.forEach((view) => view.show(false));
  },
}));

class LogPane {
  /** `card` has the model and the job; `el` is to be put on the page. */
  constructor(card) {
    [this.card, this.model, this.follow, this.unseen] = [card, card.model, true, 0];
    const n = (this.n = {});
    n.rows = h("div", {class: "rows", role: "log", "aria-live": "off", tabindex: 0, "aria-label": "Log",
      onscroll: () => this.scrolled(), onkeydown: (event) => this.key(event)});
    n.pill = h("button", {class: "pill", hidden: true, onclick: () => this.toEnd()});
    n.count = h("span", {class: "muted"});
    n.following = h("button", {class: "btn quiet small", onclick: () => (this.follow ? this.pause() : this.toEnd())});
    n.wrap = h("button", {class: "btn quiet small", text: "Wrap", "aria-pressed": "false", onclick: () => {
      n.wrap.setAttribute("aria-pressed", String(n.rows.classList.toggle("wrap")));
    }});
    n.find = h("input", {class: "find", type: "search", placeholder: "Find", "aria-label": "Find in the log", maxlength: 200, oninput: () => this.wantSoon()});
    n.older = h("button", {class: "btn quiet small page", text: "Older lines", hidden: true, onclick: () => this.turn({before: this.firstHere})});
    n.newer = h("button", {class: "btn quiet small page", text: "Newer lines", hidden: true, onclick: () => this.turn({after: this.lastHere})});
    n.copy = h("button", {class: "btn quiet small", title: "Copy the log", "aria-label": "Copy the log",
      onclick: () => copyText(this.text(), n.copy)}, icon("copy"));
    n.save = h("button", {class: "btn quiet small", title: "Save the log", "aria-label": "Save the log", onclick: () => this.save()}, icon("download"));
    n.page = card.turnTo("log") && h("a", {class: "btn quiet small", title: "Show the whole log on a page", "aria-label": "Show the whole log on a page",
      onclick: (event) => this.openPage(event)}, icon("open"));
    n.level = h("select", {class: "pick muted", "aria-label": "Show lines from this level on", hidden: true, onchange: () => this.want()},
      ["All levels", "Info", "Warnings", "Errors"].map((word, i) => h("option", {value: i, text: word})));
    this.el = h("section", {class: "logs", "aria-label": "Log", hidden: true},
      h("header", {class: "strip"}, h("h4", {text: "Log"}), n.count, h("span", {class: "spring"}), n.level, n.find, n.following, n.wrap, n.copy, n.save, n.page),
      h("div", {class: "pane"}, n.older, n.rows, n.newer, n.pill));
    this.log = logOf(this.model);
    this.log.views.add(this);
    card.stops.push(() => this.log.views.delete(this), () => clearTimeout(this.soon));
    if (this.model.get("keyboard")) card.listen(globalThis, "hashchange", () => { this.jumped = ""; this.jump(); });
  }

  get job() { return this.card.job; }

  /** A plain click turns to the page here; others are the browser's own. */
  openPage(event) {
    if (event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
    event.preventDefault();
    this.card.turn("log");
  }

  /** Another job than before. */
  begin() {
    if (this.n.page) this.n.page.href = `?page=log&id=${encodeURIComponent(this.card.jobId)}`;
    Object.assign(this, {follow: true, page: null, looked: "", hasAskedWhole: false, asked: (this.asked || 0) + 1});
    this.n.find.value = "";
    this.n.level.value = "0";
  }

  // -- pages: lines that the server read, instead of the newest ones ---------------------------------------------

  /** Every line of the log is here: no request is needed. */
  get isWhole() { return this.log.lines.length > 0 && this.log.lines.length >= this.log.total; }

  get wanted() { return {search: this.n.find.value, level: LEAST[Number(this.n.level.value)]}; }

  get isNarrowed() { return Boolean(this.wanted.search || this.wanted.level); }

  get firstHere() { return (this.page || this.log).lines[0]?.n ?? 1; }

  get lastHere() { return (this.page || this.log).lines.at(-1)?.n ?? 0; }

  /** One request for all that is typed in a moment. */
  wantSoon() {
    clearTimeout(this.soon);
    if (this.isWhole || !this.isNarrowed) this.want();
    else this.soon = setTimeout(() => this.want(), 250);
  }

  want() {
    clearTimeout(this.soon);
    if (this.isNarrowed && !this.isWhole) return this.turn({});
    this.live();
    this.filter();
  }

  /** Asks for a page: `{before}` or `{after}` a line, or the newest. A later question makes the answer to this one stale. */
  turn(range, found = null) {
    this.found = found;
    this.asked = (this.asked || 0) + 1;
    this.range = range;
    if (!found) this.origin = range;
    if (ask(this.model, "log-page", {name: String(this.asked), ...this.wanted, ...range})) put(this.n.count, "searching…");
    else put(this.n.count, this.isNarrowed ? "the server does not answer" : "not available now");
  }

  /** The newest lines again, as they come. */
  live() {
    this.asked = (this.asked || 0) + 1;
    if (!this.page) return;
    this.page = null;
    this.show(true);
  }

  showPage(told) {
    const before = this.range.after === undefined, sofar = this.found?.lines || [];
    const lines = before ? [...told.lines, ...sofar] : [...sofar, ...told.lines];
    const matched = (this.found?.matched || 0) + told.matched;
    if (told.cursor && lines.length < PAGE_ROWS) return this.turn(before ? {before: told.cursor} : {after: told.cursor}, {lines, matched});  // a long log is searched in parts
    const {origin} = this, isNewest = before && origin.before === undefined, isFull = lines.length >= PAGE_ROWS;
    if (isNewest) Object.assign(this, {matched, isCounted: told.is_all});
    this.page = {lines, total: told.total, dropped: told.dropped, older: before ? isFull : origin.after > 0, newer: before ? !isNewest : isFull};
    const n = this.n;
    this.follow = false;
    this.unseen = 0;
    n.pill.hidden = true;
    n.rows.replaceChildren(...(this.isNarrowed ? lines.map((line) => this.line(line)) : this.linesAfter(0, lines)));
    n.level.hidden = false;
    if (isNewest && this.job?.state === "failed" && !this.isNarrowed) this.toError();
    else n.rows.scrollTop = before ? n.rows.scrollHeight : 0;
    this.showHead();
    this.jump();
  }

  /** Nodes of lines that follow line `last`, of gaps and of new attempts between them; before the first line if `isFromStart`. */
  linesAfter(last, lines, isFromStart = false) {
    let before = last ? this.lastLine : null;
    return lines.flatMap((line) => {
      const missing = last || isFromStart ? line.n - last - 1 : 0, attempts = attemptRows(this.job?.attempts || [], before, line);
      last = line.n;
      before = this.lastLine = line;
      return [...(missing > 0 ? [h("div", {class: "gap muted", text: `… ${number(missing)} lines not shown …`})] : []), ...attempts, this.line(line)];
    });
  }

  showHead() {
    const n = this.n, log = this.log, live = this.job && this.job.state === "running";
    this.el.hidden = !log.lines.length;
    const shown = this.page || log, {lines, total} = shown, dropped = shown.dropped ? `, ${number(shown.dropped)} not kept` : "";
    const lost = this.named && !lines.some((line) => line.n === this.named) ? `, line ${number(this.named)} is not shown` : "";
    const all = many(total || lines.length, "line");
    const part = !lines.length ? all : lines.length < total ? `lines ${number(lines[0].n)} to ${number(lines.at(-1).n)} of ${number(total)}` : all;
    const match = this.page && this.isNarrowed ? `; ${number(this.matched)}${this.isCounted ? "" : " or more"} match` : "";
    put(n.count, `${part}${match}${dropped}${lost}`);
    n.count.title = n.count.textContent;
    n.rows.style.setProperty("--digits", String(lines.at(-1)?.n ?? "").length);
    n.older.hidden = this.page ? !this.page.older : !lines.length || lines[0].n <= 1;
    n.newer.hidden = !this.page?.newer;
    if (!this.page && !this.isWhole) n.level.hidden = false;
    n.following.hidden = !live;
    put(n.following, this.follow ? "Pause" : "Follow");
  }

  show(all) {
    const n = this.n, lines = this.log.lines, seen = this.shownTo, top = n.rows.scrollTop;
    if (this.page) {  // a page that is being read stays
      const news = lines.filter((line) => line.n > Math.max(seen, this.page.total)).length;
      this.shownTo = Math.max(seen, lines.at(-1)?.n ?? 0);
      return news ? this.tellOf(news) : undefined;
    }
    if (all) {
      n.rows.replaceChildren();
      n.level.hidden = true;
      this.shownTo = 0;
    }
    const fresh = lines.filter((line) => line.n > this.shownTo);
    n.rows.append(...this.linesAfter(this.shownTo, fresh, Boolean(this.log.dropped)));
    while (n.rows.childElementCount > LOG_ROWS) n.rows.firstElementChild.remove();
    this.shownTo = fresh.at(-1)?.n ?? this.shownTo;
    this.showHead();
    if (n.level.hidden) n.level.value = "0";
    if (this.isNarrowed) this.filter();
    if (this.jump()) return;
    this.askWhole();
    if (all && this.job && this.job.state === "failed") {
      this.follow = false;
      this.toError();
    } else if (this.follow) n.rows.scrollTop = n.rows.scrollHeight;
    else {
      if (all) n.rows.scrollTop = top;  // the whole log came again; what is being read stays in place
      const news = fresh.filter((line) => line.n > seen).length;
      if (news) this.tellOf(news);
    }
  }

  /** Scroll to the first error, or to the end. */
  toError() {
    const {rows} = this.n, bad = rows.querySelector('[data-level="ERROR"], [data-level="CRITICAL"]');
    rows.scrollTop = bad ? Math.max(0, bad.offsetTop - rows.offsetTop - 18) : rows.scrollHeight;
  }

  /** Ask for the end of the whole log if the newest lines are not numbered as there: of an ended job that wrote more than is
   *  kept beside the file. Until it comes, those lines are shown. */
  askWhole() {
    if (!this.log.dropped || !this.job?.finished_at || this.hasAskedWhole) return;
    this.hasAskedWhole = true;
    this.turn({});
  }

  tellOf(news) {
    this.unseen += news;
    this.n.pill.hidden = false;
    this.n.pill.replaceChildren(many(this.unseen, "new line"), icon("down"));
  }

  line(line) {
    if (line.level || line.source === "warning") this.n.level.hidden = false;
    const link = this.model.get("keyboard") && {href: `#L${line.n}`, tabindex: -1, title: "Link to this line", onclick: (event) => this.point(event, line.n)};
    const row = logLine(line, {link});
    row.weight = weight(line);
    return row;
  }

  // -- a link to a line: `#L182` in the address of the page that this card is a part of ------------------------------

  /** The line that the address names, or 0. */
  get named() { return this.model.get("keyboard") ? Number(location.hash.match(/^#L(\d{1,9})(?:-L?\d{1,9})?$/)?.[1] || 0) : 0; }

  /** A plain click on a line's number puts it into the address; others are the browser's own. */
  point(event, number) {
    if (event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
    event.preventDefault();
    history.replaceState(history.state, "", `${location.pathname}${location.search}#L${number}`);
    this.jumped = `${this.card.jobId}#L${number}`;
    this.markLine();
  }

  /** Marks the line that the address names, and returns it if it is here. */
  markLine() {
    const row = this.named ? this.n.rows.querySelector(`[data-n="${this.named}"]`) : null;
    if (row === this.markedRow) return row;
    this.markedRow?.classList.remove("marked");
    row?.classList.add("marked");
    return (this.markedRow = row);
  }

  /** Goes to the line that the address names, once; whether that line is there and nothing else may scroll now. */
  jump(tries = 60) {
    const key = `${this.card.jobId}#L${this.named}`, row = this.markLine();
    if (!row && this.named && this.log.lines.length && !this.isWhole && this.looked !== key && this.jumped !== key) {
      this.looked = key;  // older than the newest lines: read those around it
      this.turn({after: Math.max(0, this.named - PAGE_ROWS / 2)});
      return true;
    }
    if (!row || this.jumped === key) return false;
    this.follow = false;
    if (row.offsetParent) {
      this.jumped = key;
      row.scrollIntoView({block: "center"});
    } else if (tries) requestAnimationFrame(() => this.jump(tries - 1));  // the drawer is only being opened
    return true;
  }

  /** Another job is shown, or none: the address names a line of the one before. */
  forget() {
    if (this.named) history.replaceState(history.state, "", location.pathname + location.search);
  }

  scrolled() {
    const rows = this.n.rows, atEnd = rows.scrollHeight - rows.scrollTop - rows.clientHeight < 12;
    if (this.page) return;
    if (atEnd && !this.follow && this.job && this.job.state === "running") this.toEnd();
    else if (!atEnd && this.follow && rows.scrollTop < (this.lastTop ?? 0)) this.pause();
    if (atEnd) this.n.pill.hidden = true;
    this.lastTop = rows.scrollTop;
  }

  pause() { this.follow = false; this.unseen = 0; this.showHead(); }

  toEnd() {
    if (this.page) {
      if (this.isNarrowed) return this.turn({});
      this.live();
    }
    this.follow = true;
    this.unseen = 0;
    this.n.pill.hidden = true;
    this.n.rows.scrollTop = this.n.rows.scrollHeight;
    this.showHead();
  }

  key(event) {
    if (event.key === "End") this.toEnd();
    else if (event.key === "Home" || event.key === "PageUp" || event.key === "ArrowUp") this.pause();
  }

  filter() {
    const wanted = this.n.find.value.toLowerCase(), least = Number(this.n.level.value);
    for (const row of this.n.rows.children) {
      row.hidden = least > 0 && !(row.weight >= least) || Boolean(wanted) && !row.textContent.toLowerCase().includes(wanted);
    }
    if (this.follow) this.n.rows.scrollTop = this.n.rows.scrollHeight;
  }

  text() { return (this.page || this.log).lines.map((line) => line.text).join("\n") + "\n"; }

  /** The whole log where the page's server reaches it, else what is here. */
  save() {
    if (this.isWhole) return void saveFile(`${this.job.id}.log`, {base64: btoa(unescape(encodeURIComponent(this.text()))), media_type: "text/plain"});
    this.n.save.disabled = true;
    ask(this.model, "whole-log");
  }

  /** The answer to `save`. */
  take(told) {
    if (told.action === "log-page") {
      if (told.name !== String(this.asked)) return;  // another question has been asked since
      if (told.problem) return put(this.n.count, told.problem);
      return this.showPage(told);
    }
    this.n.save.disabled = false;
    if (told.base64) saveFile(`${this.job.id}.log`, told);
    else put(this.n.count, told.problem || "");
  }
}
