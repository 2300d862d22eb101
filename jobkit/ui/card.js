// The job card: one module for notebooks (anywidget), the dashboard and users' Panel apps (AnyWidgetComponent).
// It shows the synced texts `snapshot`, `log`, `log_append` and `preview` (made by feed.py) and sends `request`.
// Nodes are made once and then changed in place, so that a selection, the focus and a scroll position survive updates.

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
    log.views.forEach((view) => view.showLog(true));
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
    log.views.forEach((view) => view.showLog(false));
  };
  model.on("change:log", load);
  model.on("change:log_append", append);
  load();
  append();
  logs.set(model, log);
  return log;
}

class Card {
  constructor(model, el) {
    this.model = model;
    this.skew = 0;
    this.pending = null;
    this.asked = "";
    this.follow = true;
    this.unseen = 0;
    this.build();
    el.append(this.root);
    this.stops = [followTheme(this.root, () => this.showPreview()), everySecond(() => this.tick())];
    for (const [name, fn] of [["snapshot", () => this.show()], ["preview", () => this.showPreview()], ["actions", () => this.showActions()],
      ["artifacts", () => this.showArtifacts()], ["alike", () => this.showAlike()], ["file", () => this.takeFile()]]) {
      model.on(`change:${name}`, fn);
      this.stops.push(() => model.off(`change:${name}`, fn));
    }
    if (model.get("keyboard")) {
      const keys = (event) => this.key(event);
      const turned = () => { this.jumped = ""; this.jump(); };
      document.addEventListener("keydown", keys);
      addEventListener("hashchange", turned);
      this.stops.push(() => { document.removeEventListener("keydown", keys); removeEventListener("hashchange", turned); });
    }
    this.log = logOf(model);
    this.log.views.add(this);
    this.show();
    this.showPreview();
    this.showLog(true);
    ask(model, "hello", {v: this.job.v});
    requestAnimationFrame(() => this.showLog(true));  // scrolling needs a height, and that needs the document
  }

  close() {
    this.log.views.delete(this);
    this.stops.forEach((stop) => stop());
  }

  build() {
    const n = (this.n = {});
    n.chip = h("span", {class: "chip"});
    n.title = h("h3", {class: "title"});
    n.args = h("span", {class: "args mono"});
    n.elapsed = h("span", {class: "elapsed"});
    n.actions = h("div", {class: "actions"});
    n.fill = h("i");
    n.bar = h("div", {class: "bar", role: "progressbar", "aria-valuemin": 0, "aria-valuemax": 100}, n.fill);
    n.count = h("span", {class: "count"});
    n.message = h("span", {class: "message muted"});
    n.left = h("span", {class: "left muted"});
    n.below = h("div", {class: "below"}, n.count, n.message, n.left);
    n.meta = h("div", {class: "meta muted"});
    n.copy = h("button", {class: "id mono", title: "Copy the job's id", onclick: () => copyText(this.job.id, n.copy)});
    n.alertText = h("span");
    n.alert = h("div", {class: "notice", role: "status", hidden: true}, icon("warn"), n.alertText);
    n.toQueue = h("input", {type: "text", name: "queue", autocomplete: "off", spellcheck: "false", "aria-label": "Queue"});
    n.toPriority = h("input", {type: "number", name: "priority", step: 1, "aria-label": "Priority"});
    n.mover = h("form", {class: "mover", hidden: true, onsubmit: (event) => this.move(event)}, h("label", null, "Queue ", n.toQueue), h("label", null, "Priority ", n.toPriority),
      h("button", {class: "btn small primary", type: "submit", text: "Move"}), h("button", {class: "btn small", type: "button", text: "Keep", onclick: () => { n.mover.hidden = true; }}));
    n.error = h("section", {class: "failure", "aria-label": "Error", hidden: true});
    n.alike = h("button", {class: "btn quiet small", hidden: true, title: "The group of failures", onclick: () => ask(this.model, "group", {id: this.group})});
    n.result = h("section", {class: "result", "aria-label": "Result", hidden: true});
    n.rows = h("div", {class: "rows", role: "log", "aria-live": "off", tabindex: 0, "aria-label": "Log",
      onscroll: () => this.scrolled(), onkeydown: (event) => this.logKey(event)});
    n.pill = h("button", {class: "pill", hidden: true, onclick: () => this.toEnd()});
    n.logCount = h("span", {class: "muted"});
    n.followButton = h("button", {class: "btn quiet small", onclick: () => (this.follow ? this.pause() : this.toEnd())});
    n.wrap = h("button", {class: "btn quiet small", text: "Wrap", "aria-pressed": "false", onclick: () => {
      n.wrap.setAttribute("aria-pressed", String(n.rows.classList.toggle("wrap")));
    }});
    n.find = h("input", {class: "find", type: "search", placeholder: "Find", "aria-label": "Find in the log", oninput: () => this.filter()});
    n.logCopy = h("button", {class: "btn quiet small", title: "Copy the log", "aria-label": "Copy the log",
      onclick: () => copyText(this.logText(), n.logCopy)}, icon("copy"));
    n.logSave = h("button", {class: "btn quiet small", title: "Save the log", "aria-label": "Save the log", onclick: () => this.saveLog()}, icon("download"));
    n.level = h("select", {class: "level-choice", "aria-label": "Show lines from this level on", hidden: true, onchange: () => this.filter()},
      ["All levels", "Info", "Warnings", "Errors"].map((word, i) => h("option", {value: i, text: word})));
    n.logs = h("section", {class: "logs", "aria-label": "Log", hidden: true},
      h("header", {class: "strip"}, h("h4", {text: "Log"}), n.logCount, h("span", {class: "spring"}), n.level, n.find, n.followButton, n.wrap, n.logCopy, n.logSave),
      h("div", {class: "pane"}, n.rows, n.pill));
    n.attemptsTitle = h("summary");
    n.attemptList = h("ol", {class: "timeline"});
    n.attempts = h("details", {class: "attempts", hidden: true}, n.attemptsTitle, n.attemptList);
    n.details = h("details", {class: "facts"}, h("summary", {text: "Details"}), (n.factList = h("dl")));
    n.live = h("span", {class: "sr", "aria-live": "polite"});
    this.root = h("article", {class: "jk jk-card"},
      h("header", {class: "head"},
        h("div", {class: "top"}, n.chip, n.title, n.args, n.elapsed, n.actions), n.bar, n.below, n.meta),
      n.mover, n.alert, n.error, n.result, (this.artifacts = new Artifacts(this.model)).root, n.logs, n.attempts, n.details, n.live);
  }

  now() { return Date.now() + this.skew; }

  show() {
    const job = (this.job = parse(this.model.get("snapshot"), null) || {state: "", params: {}, attempts: []});
    const n = this.n, before = this.root.dataset.face;
    this.root.classList.toggle("empty", !job.id);
    this.root.classList.toggle("missing", Boolean(job.missing));
    if (this.jobId && this.jobId !== job.id) this.forgetLine();
    if (!job.id) return;
    if (job.now) this.skew = Date.parse(job.now) - Date.now();
    this.receivedAt = this.now();
    if (this.jobId !== job.id || this.seq !== job.seq || job.alert) this.pending = null;
    if (this.jobId !== job.id) {
      this.jobId = job.id;
      this.follow = true;
      this.asked = "";
      n.details.open = false;
      n.attempts.open = false;
    }
    this.seq = job.seq;
    const face = job.face || job.state, cancelling = job.state === "running" && job.cancel_requested_at;
    this.root.dataset.face = face;
    const word = cancelling ? "Cancelling" : WORDS[face] || face;
    if (n.chip.dataset.word !== word) {
      n.chip.dataset.word = word;
      n.chip.replaceChildren(icon(face), word);
    }
    put(n.title, job.title || job.task);
    n.title.title = job.title && job.title !== job.task ? `${job.title} (${job.task})` : job.task;
    put(n.args, job.args || "");
    n.args.title = Object.entries(job.params || {}).map(([key, value]) => `${key} = ${typeof value === "string" ? value : JSON.stringify(value)}`).join("\n");
    this.root.setAttribute("aria-label", `Job ${job.title || job.task}, ${word}`);
    this.showBar(face, cancelling);
    put(n.count, job.count || (job.state === "running" && job.progress == null && job.typical_s ? `usually ${duration(job.typical_s)}` : ""));
    put(n.message, job.message || "");
    n.message.title = job.message || "";
    this.showAlert();
    this.showError();
    this.showAttempts();
    this.showFacts();
    this.showActions();
    this.showLogHead();
    this.showArtifacts();
    this.tick();
    if (before && before !== face) put(n.live, `${job.title || job.task}: ${word}${job.error && face === "failed" ? `, ${job.error.type}` : ""}`);
    if (before === "running" && face === "failed") this.showLog(true);
  }

  showBar(face, cancelling) {
    const job = this.job, bar = this.n.bar, known = job.progress != null;
    const unknown = face === "running" && !known && !cancelling, usual = unknown && job.typical_s;
    bar.className = `bar${cancelling ? " cancelling" : usual ? " usual" : unknown ? " unknown" : ""}`;
    // Waiting jobs have nothing to show, and an ended one that never counted has no honest place to stop.
    bar.hidden = ["queued", "scheduled", "retrying", "succeeded"].includes(face) || (["failed", "cancelled"].includes(face) && !known);
    this.n.fill.style.width = unknown || cancelling ? "" : `${(job.progress || 0) * 100}%`;
    if (known) bar.setAttribute("aria-valuenow", Math.floor(job.progress * 100)); else bar.removeAttribute("aria-valuenow");
    bar.setAttribute("aria-valuetext", [job.count, job.message].filter(Boolean).join(", ") || WORDS[face] || face);
  }

  /** What changes with the time alone. */
  tick() {
    const job = this.job, n = this.n;
    if (!job || !job.id) return;
    const since = (iso) => (iso ? (this.now() - Date.parse(iso)) / 1000 : null);
    const running = job.state === "running";
    if (running) put(n.elapsed, ticking(since(job.started_at) || 0));
    else if (job.finished_at && job.started_at) put(n.elapsed, duration((Date.parse(job.finished_at) - Date.parse(job.started_at)) / 1000));
    else put(n.elapsed, "");
    n.elapsed.title = job.started_at ? `started ${exact(job.started_at)}${job.finished_at ? `\nended ${exact(job.finished_at)}` : ""}` : "";
    if (n.bar.classList.contains("usual")) n.fill.style.width = usualWidth(since(job.started_at) || 0, job.typical_s);
    const eta = running && job.eta_s != null ? Math.max(0, job.eta_s - (this.now() - this.receivedAt) / 1000) : null;
    put(n.left, running && !job.cancel_requested_at ? timeLeft(eta) : "");
    n.below.hidden = job.state === "succeeded" || !n.count.textContent && !n.message.textContent && !n.left.textContent;
    const parts = [];
    if (running) {
      if (job.waited_s >= 1) parts.push(`waited ${duration(job.waited_s)}`);
      if (job.worker) parts.push(`worker ${job.worker}`);
    } else if (job.finished_at) {
      parts.push(`ended ${ago(since(job.finished_at))}`);
      if (job.worker) parts.push(`worker ${job.worker}`);
    } else if (job.state === "queued") {
      parts.push(`queued ${ago(since(job.queued_at || job.submitted_at))}`, `queue ${job.queue}`);
    } else {
      const due = since(job.due_at);
      parts.push(due == null ? (job.needs && job.needs.length ? "waits for results" : "scheduled") : due >= 0 ? "due now" : `${job.retried ? "next attempt" : "starts"} ${ago(due)}`, `queue ${job.queue}`);
    }
    if (job.attempt > 1 || (job.retries && job.attempt)) {
      parts.push(`attempt ${job.attempt}${job.retries ? ` of ${job.retries + 1 + job.losses + job.releases}` : ""}`);
    }
    const line = parts.join(" · ") + " · ";
    if (n.meta.dataset.line !== line || !n.meta.contains(n.copy)) {
      n.meta.dataset.line = line;
      if (!n.metaText) n.meta.append((n.metaText = h("span")), n.copy);
      put(n.metaText, line);
    }
    if (n.copy.dataset.id !== job.id) {
      n.copy.dataset.id = job.id;
      n.copy.replaceChildren(job.id.slice(0, 8), icon("copy"));
    }
  }

  showAlert() {
    const job = this.job, n = this.n;
    const alert = job.connection && job.connection !== "live"
      ? {level: "warning", text: "Connection lost, reconnecting; what you see may be old"} : job.alert;
    n.alert.hidden = !alert;
    if (!alert) return;
    if (n.alert.dataset.level !== alert.level) n.alert.firstChild.replaceWith(icon(alert.level === "info" ? "info" : "warn"));
    n.alert.dataset.level = alert.level;
    // `code` in backticks, as text nodes and <code>: the only markup that an alert has.
    if (n.alertText.dataset.text !== alert.text) {
      n.alertText.dataset.text = alert.text;
      n.alertText.replaceChildren(...alert.text.split("`").map((part, i) => (i % 2 ? h("code", {text: part}) : part)));
    }
  }

  showError() {
    const {error, chain = []} = this.job, box = this.n.error;
    const shown = Boolean(error) && this.job.state !== "succeeded" && this.job.state !== "running";
    box.hidden = !shown;
    const key = shown ? JSON.stringify([error, this.job.face]) : "";
    if (box.dataset.key === key) return;
    box.dataset.key = key;
    if (!shown) return box.replaceChildren();
    box.replaceChildren(...errorParts(error, chain));
    box.firstChild.lastChild.before(this.n.alike);
    if (this.model.get("keyboard")) ask(this.model, "alike");
    this.showAlike();
  }

  /** How many more have failed like this job, where somebody may know that. */
  showAlike() {
    const told = parse(this.model.get("alike"), null), more = told && told.job === this.job?.id ? told.more : 0;
    this.n.alike.hidden = more < 1;
    this.group = told?.group;
    put(this.n.alike, `${number(more)} more like this`);
  }

  showAttempts() {
    const attempts = this.job.attempts || [], n = this.n;
    const shown = attempts.length > 1 || attempts.some((a) => ["lost", "released", "retried"].includes(a.outcome));
    n.attempts.hidden = !shown;
    if (!shown) return;
    put(n.attemptsTitle, `${attempts.length} attempt${attempts.length > 1 ? "s" : ""}`);
    const faces = {succeeded: "succeeded", failed: "failed", retried: "failed", cancelled: "cancelled", lost: "retrying", released: "cancelled", running: "running"};
    const words = {retried: "Failed", lost: "Lost", released: "Released", running: "Running", succeeded: "Done", failed: "Failed", cancelled: "Cancelled"};
    n.attemptList.replaceChildren(...attempts.map((a) => h("li", {"data-face": faces[a.outcome] || "queued"},
      h("span", {class: "mark"}, icon(faces[a.outcome] || "queued")),
      h("span", {class: "number", text: a.number}),
      h("span", {text: words[a.outcome] || a.outcome}),
      h("span", {class: "muted", title: exact(a.started_at), text: a.duration_s == null ? `started ${clock(a.started_at).slice(0, 8)}` : `${clock(a.started_at).slice(0, 8)} · ${duration(a.duration_s)}`}),
      h("span", {class: "muted", text: a.worker}),
      a.reason && h("span", {class: "reason muted", text: a.reason}))));
  }

  showFacts() {
    const job = this.job, usage = job.usage || {}, facts = [];
    const add = (name, value) => value && facts.push([name, value]);
    add("Task", job.task);
    add("Id", job.id);
    for (const [key, value] of Object.entries(job.params || {})) add(key, typeof value === "string" ? value : JSON.stringify(value));
    add("Queue", job.queue);
    add("Priority", job.priority && String(job.priority));
    add("Owner", job.owner);
    add("Tags", (job.tags || []).join(", "));
    add("Key", job.key);
    add("Retry of", job.retry_of);
    add("Cached from", job.cached_from);
    add("Needs", (job.needs || []).slice(0, 100).join(", "));
    add("Submitted", job.submitted_at && exact(job.submitted_at));
    add("Started", job.started_at && exact(job.started_at));
    add("Ended", job.finished_at && exact(job.finished_at));
    add("CPU time", usage.cpu_s != null && duration(usage.cpu_s));
    add("Peak memory", usage.peak_rss_bytes && bytes(usage.peak_rss_bytes));
    add("Exit", usage.exit != null && String(usage.exit));
    const key = JSON.stringify(facts);
    if (this.n.factList.dataset.key === key) return;
    this.n.factList.dataset.key = key;
    const params = new Set(Object.keys(job.params || {}));
    this.n.factList.replaceChildren(...facts.flatMap(([name, value]) => [
      h("dt", {class: params.has(name) ? "mono muted" : "muted", text: name}),
      h("dd", {class: params.has(name) || name === "Id" || name === "Retry of" ? "mono" : "", text: value})]));
  }

  showActions() {
    const job = this.job, n = this.n;
    if (!job || !job.id) return;
    const allowed = new Set(job.deleted ? [] : parse(this.model.get("actions"), []));
    const waiting = ["queued", "scheduled"].includes(job.state), running = job.state === "running";
    const key = JSON.stringify([[...allowed], job.id, job.state, job.cancel_requested_at, this.asked, this.pending, job.url, job.deleted]);
    if (n.actions.dataset.key === key) return;
    const hadFocus = n.actions.contains(n.actions.getRootNode().activeElement);
    n.actions.dataset.key = key;
    const button = (text, cls, onclick, more) => h("button", {class: `btn ${cls}`, text, onclick, ...more});
    const out = [];
    if (this.pending) out.push(button(this.pending, "", null, {disabled: true}));
    else if (allowed.has("cancel") && (running || waiting) && !job.cancel_requested_at) {
      if (this.asked === "cancel") {
        out.push(button("Keep", "", () => this.confirm("")), button("Cancel job", "danger", () => this.act("cancel", "Cancelling…")));
      } else out.push(button("Cancel", "", () => (running ? this.confirm("cancel") : this.act("cancel", "Cancelling…"))));
    }
    if (!this.pending && this.asked !== "cancel" && waiting && allowed.has("move")) out.unshift(button("Move…", "", () => this.openMover(), {title: "To another queue or priority"}));
    if (!waiting) n.mover.hidden = true;
    if (!this.pending && !running && !waiting) {
      if (allowed.has("rerun")) out.push(button("Change…", "", () => ask(this.model, "rerun"), {title: "Run again with other arguments"}));
      if (allowed.has("retry")) out.push(button(job.state === "succeeded" ? "Run again" : "Retry", job.state === "cancelled" ? "" : "primary", () => this.act("retry", "Submitting…")));
    }
    if (job.url) out.push(h("a", {class: "btn", href: job.url, target: "_blank", rel: "noopener", text: "Open in dashboard"}));
    n.actions.replaceChildren(...out);
    n.actions.hidden = !out.length;
    if (hadFocus && out.length) out[out.length - 1].focus();
  }

  openMover() {
    const {mover, toQueue, toPriority} = this.n;
    mover.hidden = !mover.hidden;
    if (mover.hidden) return;
    toQueue.value = this.job.queue;
    toPriority.value = String(this.job.priority || 0);
    toQueue.select();
    toQueue.focus();
  }

  move(event) {
    event.preventDefault();
    const {mover, toQueue, toPriority} = this.n;
    mover.hidden = true;
    ask(this.model, "move", {queue: toQueue.value, priority: toPriority.value});
  }

  /** `r` retries, `c` asks whether to cancel and, pressed again, does. */
  key(event) {
    if (!this.root.isConnected || !this.root.offsetParent || isTyping(event) || !this.job || !this.job.id || this.job.deleted || this.pending) return;
    const allowed = new Set(parse(this.model.get("actions"), [])), ended = ["succeeded", "failed", "cancelled"].includes(this.job.state);
    if (event.key === "r" && ended && allowed.has("retry")) this.act("retry", "Submitting…");
    else if (event.key === "c" && !ended && allowed.has("cancel") && !this.job.cancel_requested_at) {
      if (this.asked === "cancel") this.act("cancel", "Cancelling…");
      else this.confirm("cancel");
    } else if (event.key === "/" && !this.n.logs.hidden && this.root.contains(focused())) {
      event.preventDefault();
      event.stopImmediatePropagation();
      this.n.find.focus();
    }
  }

  confirm(what) {
    this.asked = what;
    clearTimeout(this.askedTimer);
    if (what) this.askedTimer = setTimeout(() => this.confirm(""), 6000);
    this.showActions();
  }

  act(action, word) {
    this.asked = "";
    this.pending = word;
    this.showActions();
    ask(this.model, action);
    clearTimeout(this.pendingTimer);
    // No answer: in a notebook the kernel is busy with a cell; say so instead of looking dead.
    this.pendingTimer = setTimeout(() => {
      if (!this.pending) return;
      this.pending = "Waiting for an answer…";
      this.showActions();
      this.pendingTimer = setTimeout(() => { this.pending = null; this.showActions(); }, 8000);
    }, 2500);
  }

  // -- log ---------------------------------------------------------------------------------------------------------

  showLogHead() {
    const n = this.n, log = this.log, live = this.job && this.job.state === "running";
    if (!log) return;
    n.logs.hidden = !log.lines.length;
    const dropped = log.dropped ? `, ${number(log.dropped)} not kept` : "";
    const first = log.lines.length ? log.lines[0].n : 0, lost = this.named && this.named < first ? `, line ${number(this.named)} is not shown` : "";
    put(n.logCount, `${number(log.total || log.lines.length)} line${log.total === 1 ? "" : "s"}${dropped}${lost}`);
    n.followButton.hidden = !live;
    put(n.followButton, this.follow ? "Pause" : "Follow");
  }

  showLog(all) {
    if (!this.log) return;
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
    this.showLogHead();
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
    this.jumped = `${this.jobId}#L${number}`;
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
    const key = `${this.jobId}#L${this.named}`, row = this.markLine();
    if (!row || this.jumped === key) return false;
    this.follow = false;
    if (row.offsetParent) {
      this.jumped = key;
      row.scrollIntoView({block: "center"});
    } else if (tries) requestAnimationFrame(() => this.jump(tries - 1));  // the drawer is only being opened
    return true;
  }

  /** Another job is shown, or none: the address names a line of the one before. */
  forgetLine() {
    if (this.named) history.replaceState(history.state, "", location.pathname + location.search);
    this.jobId = "";
  }

  scrolled() {
    const rows = this.n.rows, atEnd = rows.scrollHeight - rows.scrollTop - rows.clientHeight < 12;
    if (atEnd && !this.follow && this.job && this.job.state === "running") this.toEnd();
    else if (!atEnd && this.follow && rows.scrollTop < (this.lastTop ?? 0)) this.pause();
    if (atEnd) this.n.pill.hidden = true;
    this.lastTop = rows.scrollTop;
  }

  pause() { this.follow = false; this.unseen = 0; this.showLogHead(); }

  toEnd() {
    this.follow = true;
    this.unseen = 0;
    this.n.pill.hidden = true;
    this.n.rows.scrollTop = this.n.rows.scrollHeight;
    this.showLogHead();
  }

  logKey(event) {
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

  logText() { return this.log.lines.map((line) => line.text).join("\n") + "\n"; }

  /** The whole log where the page's server reaches it, else what is here. */
  saveLog() {
    if (this.log.lines.length >= (this.log.total || 0)) return void saveFile(`${this.job.id}.log`, {base64: btoa(unescape(encodeURIComponent(this.logText()))), media_type: "text/plain"});
    this.n.logSave.disabled = true;
    ask(this.model, "whole-log");
  }

  takeFile() {
    const told = parse(this.model.get("file"), null);
    if (!told) return;
    this.model.set("file", "");  // it may be large, and is needed once
    this.model.save_changes();
    if (told.action !== "whole-log") return this.artifacts.take(told);
    this.n.logSave.disabled = false;
    if (told.base64) saveFile(`${this.job.id}.log`, told);
    else put(this.n.logCount, told.problem || "");
  }

  // -- result ------------------------------------------------------------------------------------------------------

  showPreview() {
    const text = this.model.get("preview"), dark = this.root.dataset.theme === "dark", box = this.n.result;
    if (this.previewed === text && !(text && text.includes('"bokeh"') && this.previewedDark !== dark)) return;
    this.previewed = text;
    this.previewedDark = dark;
    const preview = parse(text, null), blocks = preview ? previewBlocks(preview, dark) : [];
    box.hidden = !blocks.length;
    box.replaceChildren(...(blocks.length ? [h("header", {class: "strip"}, h("h4", {text: "Result"}), preview.type && h("span", {class: "mono muted", text: preview.type})), ...blocks] : []));
  }

  showArtifacts() {
    this.artifacts.show(Boolean(this.job && ["succeeded", "failed", "cancelled"].includes(this.job.state)));
  }
}

/** How grave a line of the log is: 1 info, 2 warning, 3 error; 0 for what was only printed. */
function weight(row) {
  const level = row.dataset.level;
  if (["ERROR", "CRITICAL"].includes(level)) return 3;
  if (level === "WARNING" || row.classList.contains("err")) return 2;
  return level === "INFO" || row.classList.contains("own") ? 1 : 0;
}

export default {
  initialize({model}) {
    // anywidget only: the log goes on while no view exists. Panel has one view for each model.
    if (typeof model.get === "function" && !model.model) logOf(model);
  },
  render: (props) => mount(props, (model, el) => new Card(model, el)),
};
