// The job card: one module for notebooks (anywidget), the dashboard and users' Panel apps (JSComponent).
// It shows the synced texts `snapshot`, `log`, `metrics`, `preview` (made by card_model.py) and sends `request`.
// Nodes are made once and then changed in place, so that a selection, the focus and a scroll position survive updates.

/** Let what a `details` unfolds come into sight: at the end of a card it would be below. */
function unfolding(details) {
  details.addEventListener("toggle", () => details.open && details.scrollIntoView({block: "nearest"}));
  return details;
}

class Card extends LiveCard {
  constructor(model, el) {
    super(model, el);
    if (model.get("keyboard")) this.listen(document, "keydown", (event) => this.key(event));
    this.show();
    this.showPreview();
    this.showSections();
    this.pane.show(true);
    ask(model, "hello", {v: this.job.v});
    requestAnimationFrame(() => this.pane.show(true));  // scrolling needs a height, and that needs the document
  }

  get listeners() {
    return {snapshot: () => this.show(), preview: () => this.showPreview(), actions: () => { this.showActions(); this.showSections(); },
      sections: () => this.showSections(), made: () => this.showFacts(), replied: () => this.sections.forEach((each) => each.replied()),
      artifacts: () => this.showArtifacts(), alike: () => this.showAlike(), file: () => this.takeFile()};
  }

  /** Return where else the job is shown live. */
  get elsewhere() { return `\`jobkit.connect().get('${this.jobId}')\` in a new kernel shows the job live.`; }

  onPulse() {
    this.pending = null;
    this.asked = "";
    this.showActions();
  }

  themed() {
    this.showPreview();
    this.sections.forEach((each) => each.themed());
    this.pictures.themed();
  }

  build() {
    const {n} = this;
    this.pane = new LogPane(this);
    n.bar.append((n.fill = h("i")));
    n.cpu = loadChart("CPU");
    n.memory = loadChart("memory");
    n.loads = h("div", {class: "loads", hidden: true}, n.cpu.el, n.memory.el);
    n.again = h("div", {class: "meta again muted", hidden: true});
    n.toQueue = h("input", {type: "text", name: "queue", autocomplete: "off", spellcheck: "false", "aria-label": "Queue"});
    n.toPriority = h("input", {type: "number", name: "priority", step: 1, "aria-label": "Priority"});
    n.mover = h("form", {class: "mover", hidden: true, onsubmit: (event) => this.move(event)}, h("label", null, "Queue ", n.toQueue), h("label", null, "Priority ", n.toPriority),
      h("button", {class: "btn small primary", type: "submit", text: "Move"}), h("button", {class: "btn small", type: "button", text: "Keep", onclick: () => { n.mover.hidden = true; }}));
    n.error = h("section", {class: "failure", "aria-label": "Error", hidden: true});
    n.alike = h("button", {class: "btn quiet small", hidden: true, onclick: () => this.turn(this.alike.to, this.alike.id)});
    n.result = h("section", {class: "result", "aria-label": "Result", hidden: true});
    this.sections = SECTIONS.map((Section) => new Section(this));
    n.attemptsTitle = h("summary");
    n.attemptList = h("ol", {class: "timeline"});
    n.attempts = unfolding(h("details", {class: "attempts", hidden: true}, n.attemptsTitle, n.attemptList));
    n.details = unfolding(h("details", {class: "facts"}, h("summary", {text: "Details"}), (n.factList = h("dl"))));
    this.root = h("article", {class: "jk jk-live jk-card"}, h("header", {class: "head"}, n.top, n.bar, n.below, n.meta, n.again, n.loads),
      n.mover, n.alert, ...this.sections.map((each) => each.root), n.error, n.result, (this.curves = new CurvePane(this)).el, (this.pictures = new Pictures(this.model)).root, (this.artifacts = new Artifacts(this.model)).root, this.pane.el, ...this.sections.map((each) => each.below), n.attempts, n.details, n.live);
  }

  show() {
    const job = (this.job = parse(this.model.get("snapshot"), null) || {state: "", params: {}, attempts: []});
    const n = this.n;
    this.root.classList.toggle("empty", !job.id);
    this.root.classList.toggle("missing", Boolean(job.missing));
    if (this.jobId && this.jobId !== job.id) {
      this.pane.forget();
      this.jobId = "";
    }
    if (!job.id) return;
    if (this.jobId !== job.id || this.seq !== job.seq) this.pending = null;
    if (this.jobId !== job.id) {
      this.jobId = job.id;
      this.pane.begin();
      this.asked = "";
      n.details.open = false;
      n.attempts.open = false;
    }
    this.seq = job.seq;
    const face = job.face || job.state, cancelling = job.state === "running" && job.cancel_requested_at;
    const waits = !cancelling && face === "scheduled" && job.asking?.length, word = cancelling ? "Cancelling" : waits ? "Asks" : WORDS[face] || face, before = this.showHead(job, face, word);
    put(n.title, job.title || job.task);
    n.title.title = job.title && job.title !== job.task ? `${job.title} (${job.task})` : job.task;
    put(n.args, job.args || "");
    n.args.title = Object.entries(job.params || {}).map(([key, value]) => `${key} = ${typeof value === "string" ? value : JSON.stringify(value)}`).join("\n");
    this.root.setAttribute("aria-label", `Job ${job.title || job.task}, ${word}`);
    this.showBar(face, cancelling);
    this.showLoad();
    put(n.count, job.count || (job.state === "running" && job.progress == null && job.typical_s ? `usually ${duration(job.typical_s)}` : ""));
    put(n.message, job.message || "");
    n.message.title = job.message || "";
    this.showError();
    this.showAttempts();
    this.showFacts();
    this.showActions();
    this.pane.showHead();
    this.showArtifacts();
    this.tick();
    if (before && before !== face) put(n.live, `${job.title || job.task}: ${word}${job.error && face === "failed" ? `, ${job.error.type}` : ""}`);
    if (before === "running" && face === "failed") this.pane.show(true);
  }

  showSections() { this.sections.forEach((each) => each.show()); }

  /** Show CPU and memory of the processes of a running job. */
  showLoad() {
    const {load} = this.job, n = this.n;
    n.loads.hidden = !load;
    showLoad(n.cpu, load?.cpu, load?.step_s, inPercent);
    showLoad(n.memory, load?.memory, load?.step_s, inBytes);
  }

  showBar(face, cancelling) {
    const job = this.job, bar = this.n.bar, known = job.progress != null;
    const asks = job.asking?.length, unknown = face === "running" && !known && !cancelling && !asks, usual = unknown && job.typical_s;
    bar.className = `bar${cancelling ? " cancelling" : usual ? " usual" : unknown ? " unknown" : ""}`;
    // Waiting jobs have nothing to show, and an ended one that never counted has no honest place to stop.
    bar.hidden = ["queued", "scheduled", "retrying", "succeeded"].includes(face) || (UNSUCCESSFUL.includes(face) || asks) && !known;
    this.n.fill.style.width = unknown || cancelling ? "" : `${(job.progress || 0) * 100}%`;
    if (known) bar.setAttribute("aria-valuenow", Math.floor(job.progress * 100)); else bar.removeAttribute("aria-valuenow");
    bar.setAttribute("aria-valuetext", [job.count, job.message].filter(Boolean).join(", ") || WORDS[face] || face);
  }

  /** Update the texts that change with the time alone. */
  tick() {
    const job = this.job, n = this.n;
    if (!job || !job.id) return;
    const running = job.state === "running";
    this.sections.forEach((each) => each.tick());
    this.showElapsed(running || job.finished_at ? job : {});
    n.elapsed.title = job.started_at ? `started ${exact(job.started_at)}${job.finished_at ? `\nended ${exact(job.finished_at)}` : ""}` : "";
    if (n.bar.classList.contains("usual")) n.fill.style.width = usualWidth(this.since(job.started_at) || 0, job.typical_s);
    put(n.left, running && !job.cancel_requested_at ? this.timeLeft(job.eta_s) : "");
    n.below.hidden = job.state === "succeeded" || !n.count.textContent && !n.message.textContent && !n.left.textContent;
    const parts = [];
    if (running) {
      if (job.cancelled) parts.push(this.cancelledText());
      if (job.lent) parts.push(job.lent);
      if (job.resumed) parts.push(job.resumed);
      if (job.saved_at) parts.push(`checkpoint ${ago(this.since(job.saved_at))}`);
      if (job.waited_s >= 1) parts.push(`waited ${duration(job.waited_s)}`);
      if (job.worker) parts.push(`worker ${job.worker}`);
    } else if (job.finished_at) {
      parts.push(job.state === "cancelled" && job.cancelled ? this.cancelledText() : `ended ${ago(this.since(job.finished_at))}`);
      if (job.worker) parts.push(`worker ${job.worker}`);
    } else if (job.state === "queued") {
      const start = startText(job, this.now(), false);
      if (start) parts.push(job.starts_at ? `starts ${start}` : start);
      if (job.typical_s) parts.push(`usually takes ${duration(job.typical_s)}`);
      parts.push(`queued ${ago(this.since(job.queued_at || job.submitted_at))}`, `queue ${job.queue}`);
    } else {
      const due = this.since(job.due_at);
      parts.push(job.asking?.length ? "waits for an answer" : due == null ? (job.needs && job.needs.length ? "waits for results" : "scheduled") : due >= 0 ? "due now" : `${job.retried ? "next attempt" : "starts"} ${ago(due)}`, `queue ${job.queue}`);
    }
    if (job.attempt > 1 || (job.retries && job.attempt)) {
      parts.push(`attempt ${job.attempt}${job.retries ? ` of ${job.retries + 1 + job.losses + job.releases}` : ""}`);
    }
    this.showMeta(parts);
    if (!isNew(n.again, job.runs_again)) return;
    n.again.replaceChildren(...this.chainParts());
    n.again.hidden = !n.again.childNodes.length;
  }

  /** `Cancelled by ada, 2 min ago: wrong data`. */
  cancelledText() {
    const {at, by, reason} = this.job.cancelled, word = this.job.state === "cancelled" ? "Cancelled" : "Stop asked";
    return `${word}${by ? ` by ${by},` : ""} ${ago(this.since(at))}${reason ? `: ${reason}` : ""}`;
  }

  /** `run again as 29396772 → failed`, and the same of the job that this one runs again. */
  chainParts() {
    const {of, as} = this.job.runs_again || {}, linked = this.model.get("keyboard");
    const part = (words, {id, face}) => [`${words} `, linked ? h("button", {class: "id mono", title: "Open this job", text: id.slice(0, 8), onclick: () => ask(this.model, "open", {id})}) : h("span", {class: "mono", text: id.slice(0, 8)}),
      ENDS.includes(face) ? ` → ${WORDS[face].toLowerCase()}` : ""];
    return [...(of ? part("runs again", of) : []), of && as ? " · " : "", ...(as ? part("run again as", as) : [])].filter(Boolean);
  }

  showError() {
    const {error, chain = []} = this.job, box = this.n.error;
    const shown = Boolean(error) && this.job.state !== "succeeded" && this.job.state !== "running";
    box.hidden = !shown;
    if (!isNew(box, shown && [error, this.job.face])) return;
    if (!shown) return box.replaceChildren();
    box.replaceChildren(...errorParts(error, chain));
    box.firstChild.lastChild.before(this.n.alike);
    if (this.model.get("keyboard")) ask(this.model, "alike");
    this.showAlike();
  }

  /** Show the link to more jobs like this one, if the user may know of them. */
  showAlike() {
    const {job, to, text, title} = (this.alike = parse(this.model.get("alike"), {}));
    Object.assign(this.n.alike, {hidden: job !== this.job?.id || !this.turnTo(to), textContent: text, title});
  }

  showAttempts() {
    const attempts = this.job.attempts || [], n = this.n;
    const shown = attempts.length > 1 || attempts.some((a) => ["lost", "released", "retried"].includes(a.outcome));
    n.attempts.hidden = !shown;
    if (!shown) return;
    put(n.attemptsTitle, many(attempts.length, "attempt"));
    const faces = {retried: "failed", lost: "retrying", released: "cancelled"};
    const words = {...WORDS, retried: "Failed", lost: "Lost", released: "Released"};
    n.attemptList.replaceChildren(...attempts.map((a) => h("li", {"data-face": faces[a.outcome] || a.outcome},
      h("span", {class: "mark"}, icon(faces[a.outcome] || a.outcome)),
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
    add("Checkpoint", job.saved_at && [job.saved, exact(job.saved_at)].filter(Boolean).join(", "));
    add("Python", usage.python);
    add("CPU time", usage.cpu_s != null && duration(usage.cpu_s));
    add("Peak memory", usage.peak_rss_bytes && bytes(usage.peak_rss_bytes));
    add("Exit", usage.exit != null && String(usage.exit));
    for (const [label, text] of parse(this.model.get("made"), [])) add(label, text);
    if (!isNew(this.n.factList, facts)) return;
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
    if (!isNew(n.actions, [[...allowed], job.id, job.state, job.cancel_requested_at, this.asked, this.pending, job.deleted, job.saved, !job.saved_at, this.model.get("told")])) return;
    const {button} = this, out = [];
    if (this.pending) out.push(button(this.pending, "", null, {disabled: true}));
    else if (allowed.has("cancel") && (running || waiting) && !job.cancel_requested_at) {
      if (this.asked === "cancel") {
        out.push(button("Keep", "", () => this.confirm("")));
        if (running && job.saved_at) out.push(button("Stop at checkpoint", "", () => this.act("cancel", "Cancelling…", {checkpoint: true}), {title: "Stop when the job has written its next checkpoint"}));
        out.push(button("Cancel job", "danger", () => this.act("cancel", "Cancelling…")));
      } else out.push(button("Cancel", "", () => (running ? this.confirm("cancel") : this.act("cancel", "Cancelling…"))));
    }
    if (!this.pending && this.asked !== "cancel" && waiting && allowed.has("move")) out.unshift(button("Move…", "", () => this.openMover(), {title: "To another queue or priority"}));
    const tell = !this.pending && !this.asked && (running || waiting) && allowed.has("tell") && this.tellButton();
    if (tell) out.unshift(tell);
    if (!waiting) n.mover.hidden = true;
    if (!this.pending && !running && !waiting) {
      if (!job.deleted) for (const [to, word, title] of this.model.get("turns") || []) if (word) out.push(button(word, "", () => this.turn(to), {title}));
      const goesOn = job.saved_at && job.state !== "succeeded";
      if (allowed.has("retry")) out.push(button(job.state === "succeeded" ? "Run again" : "Retry", job.state === "cancelled" || goesOn ? "" : "primary", () => this.act("retry", "Submitting…"), goesOn ? {title: "From the beginning"} : {}));
      if (allowed.has("retry") && goesOn) out.push(button("Continue", "primary", () => this.act("retry", "Submitting…", {checkpoint: true}), {title: `From its checkpoint${job.saved ? `: ${job.saved}` : ""}`}));
    }
    this.putActions(out);
  }

  /** Return the turn to a page, if that is there. */
  turnTo(slug) { return (this.model.get("turns") || []).find(([to]) => to === slug); }

  /** Turn to a page, with this job unless it is about another id. A card that is above the page, not beside it, covers it. */
  turn(to, id) {
    let at = this.root;
    while (at && getComputedStyle(at).position !== "fixed") at = at.parentElement || at.getRootNode().host;
    ask(this.model, "turn", {to, id, covers: Boolean(at)});
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
    const allowed = new Set(parse(this.model.get("actions"), [])), ended = ENDS.includes(this.job.state);
    if (event.key === "r" && ended && allowed.has("retry")) this.act("retry", "Submitting…");
    else if (event.key === "c" && !ended && allowed.has("cancel") && !this.job.cancel_requested_at) {
      if (this.asked === "cancel") this.act("cancel", "Cancelling…");
      else this.confirm("cancel");
    } else if (event.key === "/" && !this.pane.el.hidden && this.root.contains(focused())) {
      event.preventDefault();
      event.stopImmediatePropagation();
      this.pane.n.find.focus();
    }
  }

  act(action, word, details = {}) {
    this.asked = "";
    this.pending = ask(this.model, action, details) ? word : null;
    this.showActions();
    clearTimeout(this.pendingTimer);
    // No answer: in a notebook the kernel is busy with a cell. It answers when that ends, or is found to be gone.
    this.pendingTimer = setTimeout(() => {
      if (!this.pending) return;
      this.pending = "Waiting for an answer…";
      this.showActions();
    }, 2500);
  }

  takeFile() {
    const told = parse(this.model.get("file"), null);
    if (!told) return;
    this.model.set("file", "");  // it may be large, and is needed once
    this.model.save_changes();
    if (this.pictures.take(told)) return;
    (["whole-log", "log-page"].includes(told.action) ? this.pane : this.artifacts).take(told);
  }

  // -- result ------------------------------------------------------------------------------------------------------

  showPreview() {
    const text = this.model.get("preview"), dark = this.root.dataset.theme === "dark", box = this.n.result;
    if (this.previewed === text && !(text && text.includes('"bokeh"') && this.previewedDark !== dark)) return;
    this.previewed = text;
    this.previewedDark = dark;
    const preview = parse(text, null), blocks = preview ? previewBlocks(preview, dark) : [];
    this.pictures.hideRepeated();
    box.hidden = !blocks.length;
    box.replaceChildren(...(blocks.length ? [h("header", {class: "strip"}, h("h4", {text: "Result"}), preview.type && preview.type !== "NoneType" && h("span", {class: "mono muted", text: preview.type})), ...blocks] : []));
  }

  showArtifacts() {
    this.pictures.show();
    this.artifacts.show(ENDS.includes(this.job?.state));
  }
}

export default {
  initialize({model}) {
    // anywidget only: the log goes on while no view exists. Panel has one view for each model.
    if (typeof model.save_changes !== "function") return;
    logOf(model);
    curvesOf(model);
  },
  render: (props) => mount(props, (model, el) => new Card(model, el)),
};
