// The log of a job card: its lines as they come, search and levels, and a line that the page's address names.

const LOG_ROWS = 2000;
const LEVELS = {DEBUG: "DEBG", INFO: "INFO", WARNING: "WARN", ERROR: "ERRO", CRITICAL: "CRIT"};

const logs = new WeakMap();

/** The log of a model, kept up to date while no view of it exists (a notebook may detach an output and show it again). */
function logOf(model) {
  let log = logs.get(model);
  if (log) return log;
  log = {lines: [], total: 0, dropped: 0, views: new Set()};
  const load = () => {
    const data = parse(model.get("log"), {});
    Object.assign(log, {lines: data.lines || [], total: data.total || 0, dropped: data.dropped || 0});
    log.views.forEach((view) => view.show(true));
  };
  const append = () => {
    const parts = [parse(model.get("log_append"), [])].flat(), data = parts[parts.length - 1] || {};
    const last = log.lines.length ? log.lines[log.lines.length - 1].n : 0;
    const fresh = parts.flatMap((part) => part.lines || []).filter((line) => line.n > last);
    if (!fresh.length) return;
    if (log.lines.length && fresh[0].n > last + 1) ask(model, "log");
    log.lines.push(...fresh);
    if (log.lines.length > LOG_ROWS) log.lines.splice(0, log.lines.length - LOG_ROWS);
    Object.assign(log, {total: data.total || log.total, dropped: data.dropped || 0});
    log.views.forEach((view) => view.show(false));
  };
  model.on("change:log", load);
  model.on("change:log_append", append);
  load();
  append();
  logs.set(model, log);
  return log;
}

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
    n.find = h("input", {class: "find", type: "search", placeholder: "Find", "aria-label": "Find in the log", oninput: () => this.filter()});
    n.copy = h("button", {class: "btn quiet small", title: "Copy the log", "aria-label": "Copy the log",
      onclick: () => copyText(this.text(), n.copy)}, icon("copy"));
    n.save = h("button", {class: "btn quiet small", title: "Save the log", "aria-label": "Save the log", onclick: () => this.save()}, icon("download"));
    n.level = h("select", {class: "level-choice", "aria-label": "Show lines from this level on", hidden: true, onchange: () => this.filter()},
      ["All levels", "Info", "Warnings", "Errors"].map((word, i) => h("option", {value: i, text: word})));
    this.el = h("section", {class: "logs", "aria-label": "Log", hidden: true},
      h("header", {class: "strip"}, h("h4", {text: "Log"}), n.count, h("span", {class: "spring"}), n.level, n.find, n.following, n.wrap, n.copy, n.save),
      h("div", {class: "pane"}, n.rows, n.pill));
    this.log = logOf(this.model);
    this.log.views.add(this);
    this.stops = [() => this.log.views.delete(this)];
    if (this.model.get("keyboard")) {
      const turned = () => { this.jumped = ""; this.jump(); };
      addEventListener("hashchange", turned);
      this.stops.push(() => removeEventListener("hashchange", turned));
    }
  }

  close() { this.stops.forEach((stop) => stop()); }

  get job() { return this.card.job; }

  /** Another job than before. */
  begin() { this.follow = true; }

  showHead() {
    const n = this.n, log = this.log, live = this.job && this.job.state === "running";
    this.el.hidden = !log.lines.length;
    const dropped = log.dropped ? `, ${number(log.dropped)} not kept` : "";
    const first = log.lines.length ? log.lines[0].n : 0, lost = this.named && this.named < first ? `, line ${number(this.named)} is not shown` : "";
    put(n.count, `${number(log.total || log.lines.length)} line${log.total === 1 ? "" : "s"}${dropped}${lost}`);
    n.following.hidden = !live;
    put(n.following, this.follow ? "Pause" : "Follow");
  }

  show(all) {
    const n = this.n, lines = this.log.lines, seen = this.shownTo, top = n.rows.scrollTop;
    if (all) {
      n.rows.replaceChildren();
      n.level.hidden = true;
      this.shownTo = 0;
    }
    const fresh = lines.filter((line) => line.n > this.shownTo);
    const fragment = document.createDocumentFragment();
    let last = this.shownTo;
    for (const line of fresh) {
      if (line.n > last + 1 && (last || this.log.dropped)) fragment.append(h("div", {class: "gap muted", text: `… ${number(line.n - last - 1)} lines not shown …`}));
      fragment.append(this.line(line));
      last = line.n;
    }
    n.rows.append(fragment);
    while (n.rows.childElementCount > LOG_ROWS) n.rows.firstElementChild.remove();
    this.shownTo = last;
    this.showHead();
    if (n.level.hidden) n.level.value = "0";
    if (n.find.value || n.level.value !== "0") this.filter();
    if (this.jump()) return;
    if (all && this.job && this.job.state === "failed") {
      const bad = n.rows.querySelector('[data-level="ERROR"], [data-level="CRITICAL"]');
      this.follow = false;
      n.rows.scrollTop = bad ? Math.max(0, bad.offsetTop - n.rows.offsetTop - 18) : n.rows.scrollHeight;
    } else if (this.follow) n.rows.scrollTop = n.rows.scrollHeight;
    else {
      if (all) n.rows.scrollTop = top;  // the whole log came again; whoever reads in it stays there
      const news = fresh.filter((line) => line.n > seen).length;
      if (!news) return;
      this.unseen += news;
      n.pill.hidden = false;
      n.pill.replaceChildren(`${number(this.unseen)} new line${this.unseen > 1 ? "s" : ""}`, icon("down"));
    }
  }

  line(line) {
    if (line.level || line.source === "warning") this.n.level.hidden = false;
    const warn = line.source === "stderr" || line.source === "warning" ? " err" : line.source === "jobkit" ? " own" : "";
    const link = this.model.get("keyboard") && {href: `#L${line.n}`, tabindex: -1, title: "Link to this line", onclick: (event) => this.point(event, line.n)};
    return h("div", {class: `line${warn}`, "data-n": line.n, "data-level": line.level || false, title: line.logger || false},
      h(link ? "a" : "span", {class: "num", text: line.n, ...link}), h("time", {text: clock(line.at), title: exact(line.at)}),
      h("span", {class: "level", text: LEVELS[line.level] || (line.source === "warning" ? "WARN" : "")}), h("span", {class: "text", text: line.text}));
  }

  // -- a link to a line: `#L182` in the address of the page that this card is a part of ------------------------------

  /** The line that the address names, or 0. */
  get named() { return this.model.get("keyboard") ? Number(location.hash.match(/^#L(\d{1,9})$/)?.[1] || 0) : 0; }

  /** A plain click on a line's number puts it into the address; others are the browser's own. */
  point(event, number) {
    if (event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
    event.preventDefault();
    history.replaceState(history.state, "", `${location.pathname}${location.search}#L${number}`);
    this.jumped = `${this.card.jobId}#L${number}`;
    this.markLine();
  }

  /** Marks the line that the address names; gives it, where it is here. */
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
    if (atEnd && !this.follow && this.job && this.job.state === "running") this.toEnd();
    else if (!atEnd && this.follow && rows.scrollTop < (this.lastTop ?? 0)) this.pause();
    if (atEnd) this.n.pill.hidden = true;
    this.lastTop = rows.scrollTop;
  }

  pause() { this.follow = false; this.unseen = 0; this.showHead(); }

  toEnd() {
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
      row.hidden = least > 0 && !(weight(row) >= least) || Boolean(wanted) && !row.textContent.toLowerCase().includes(wanted);
    }
    if (this.follow) this.n.rows.scrollTop = this.n.rows.scrollHeight;
  }

  text() { return this.log.lines.map((line) => line.text).join("\n") + "\n"; }

  /** The whole log where the page's server reaches it, else what is here. */
  save() {
    if (this.log.lines.length >= (this.log.total || 0)) return void saveFile(`${this.job.id}.log`, {base64: btoa(unescape(encodeURIComponent(this.text()))), media_type: "text/plain"});
    this.n.save.disabled = true;
    ask(this.model, "whole-log");
  }

  /** The answer to `save`. */
  take(told) {
    this.n.save.disabled = false;
    if (told.base64) saveFile(`${this.job.id}.log`, told);
    else put(this.n.count, told.problem || "");
  }
}

/** How grave a line of the log is: 1 info, 2 warning, 3 error; 0 for what was only printed. */
function weight(row) {
  const level = row.dataset.level;
  if (["ERROR", "CRITICAL"].includes(level)) return 3;
  if (level === "WARNING" || row.classList.contains("err")) return 2;
  return level === "INFO" || row.classList.contains("own") ? 1 : 0;
}
