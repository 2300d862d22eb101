// Workers and queues (workers.py). Lines are made once and changed in place, so that focus and a question stay.

class Workers {
  constructor(model, el) {
    this.model = model;
    this.lines = new Map();
    this.skew = 0;
    const n = (this.n = {});
    n.sum = h("p", {class: "sum", role: "status"});
    n.alerts = h("div", {class: "alerts", role: "status"});
    n.notice = h("div", {class: "notice", role: "status", hidden: true});
    n.list = h("div", {class: "list", role: "list", "aria-label": "Workers"});
    n.empty = h("div", {class: "nothing", hidden: true});
    n.queues = h("tbody");
    n.queueBox = h("section", {"aria-label": "Queues", hidden: true}, h("h2", {text: "Queues"}), h("div", {class: "scroll"}, h("table", null,
      h("thead", null, h("tr", null, ["Queue", "Waiting", "Scheduled", "Running", "Workers"].map((word, i) => h("th", {scope: "col", class: i ? "num" : "", text: word})), h("th", {scope: "col"}, h("span", {class: "sr", text: "Pause"})))), n.queues)));
    n.tasks = h("tbody");
    n.taskBox = h("section", {"aria-label": "Paused tasks", hidden: true}, h("h2", {text: "Paused tasks"}), h("table", null, n.tasks));
    this.root = h("section", {class: "jk jk-workers", "aria-label": "Workers"}, n.notice, n.alerts, n.sum, n.list, n.empty, n.queueBox, n.taskBox);
    el.append(this.root);
    this.stops = [followTheme(this.root), everySecond(() => this.tick(), this.root)];
    for (const [name, fn] of [["picture", () => this.show()], ["notice", () => this.showNotice()]]) model.on(`change:${name}`, fn);
    this.show();
    this.showNotice();
    ask(model, "hello");
  }

  close() { this.stops.forEach((stop) => stop()); }

  now() { return Date.now() + this.skew; }

  show() {
    const data = parse(this.model.get("picture"), null), n = this.n;
    if (!data) return put(n.sum, "Looking for workers…");
    this.skew = Date.parse(data.now) - Date.now();
    this.readAt = this.now();
    put(n.sum, data.alive ? `${number(data.alive)} worker${data.alive > 1 ? "s" : ""} · ${number(data.busy)} of ${number(data.slots)} slot${data.slots > 1 ? "s" : ""} busy` : "");
    n.alerts.replaceChildren(...data.alerts.map((text) => h("div", {class: "notice", "data-level": "warning"}, icon("warn"), h("span", null, ticked(text)))));
    const keep = new Set(data.workers.map((worker) => worker.id));
    for (const [id, line] of this.lines) if (!keep.has(id)) { line.el.remove(); this.lines.delete(id); }
    for (const worker of data.workers) this.fill(worker);
    n.list.hidden = !data.workers.length;
    n.empty.hidden = Boolean(data.alive);
    if (!data.alive && !n.empty.childElementCount) this.showEmpty();
    n.queueBox.hidden = !data.queues.length;
    this.showPauses(n.queues, data.queues, "queue", (queue) => ["queued", "scheduled", "running", "workers"].map((name) => h("td", {class: queue[name] ? "num" : "num muted", text: number(queue[name] || 0)})));
    n.taskBox.hidden = !(data.tasks || []).length;
    this.showPauses(n.tasks, data.tasks || [], "task", () => []);
    this.tick();
  }

  /** Lines of paused queues and tasks: since when, the user, and the button to pause or resume. */
  showPauses(body, lines, kind, cells) {
    const may = this.model.get("may_pause"), key = JSON.stringify([lines, may]);
    if (body.dataset.key === key) return;
    body.dataset.key = key;
    const focus = body.getRootNode().activeElement, kept = body.contains(focus) ? focus.dataset.id : null;
    body.replaceChildren(...lines.map((line) => {
      const {name, paused} = line, verb = paused ? "resume" : "pause";
      return h("tr", {class: [kind === "queue" && line.queued && !line.workers && "bad", paused && "paused"].filter(Boolean).join(" "), "data-id": name}, h("th", {scope: "row", class: "mono", text: name}), cells(line),
        h("td", {class: "pause"}, may && h("button", {class: paused ? "btn small" : "btn small quiet", "data-id": name, text: paused ? "Resume" : "Pause", "aria-label": `${paused ? "Resume" : "Pause"} ${kind} ${name}`, onclick: () => ask(this.model, `${verb}_${kind}`, {id: name})}),
          paused && h("span", {class: "since", "data-at": paused.at || "", "data-by": paused.by || "", title: paused.at ? exact(paused.at) : ""})));
    }));
    if (kept != null) body.querySelector(`button[data-id="${CSS.escape(kept)}"]`)?.focus();
  }

  fill(worker) {
    let line = this.lines.get(worker.id);
    if (!line) {
      line = {n: {}};
      const n = line.n;
      n.state = h("span", {class: "state"});
      n.name = h("b", {class: "mono", text: worker.id, title: worker.id});
      n.queues = h("span", {class: "muted queues"});
      n.slots = h("span", {class: "slots"});
      n.facts = h("span", {class: "muted facts"});
      n.act = h("span", {class: "act"});
      n.jobs = h("ul", {class: "jobs"});
      line.el = h("div", {class: "worker", role: "listitem"}, h("div", {class: "top"}, n.state, n.name, n.queues, h("span", {class: "spring"}), n.slots, n.act), n.facts, n.jobs);
      this.lines.set(worker.id, line);
    }
    this.n.list.append(line.el);
    const n = line.n;
    line.worker = worker;
    line.el.dataset.state = worker.state;
    const faces = {working: worker.running ? "running" : "succeeded", draining: "retrying", ended: "cancelled"};
    const words = {working: worker.running ? "Working" : "Ready", draining: "Ending", ended: "Ended"};
    if (n.state.dataset.word !== words[worker.state]) {
      n.state.dataset.word = words[worker.state];
      n.state.replaceChildren(h("span", {class: "chip", "data-face": faces[worker.state]}, icon(faces[worker.state]), words[worker.state]));
    }
    put(n.queues, worker.queues.join(", "));
    const shown = Math.min(worker.slots, 24), key = `${worker.running}/${worker.slots}`;
    if (n.slots.dataset.key !== key) {
      n.slots.dataset.key = key;
      n.slots.replaceChildren(...(worker.state === "ended" ? [] : [...Array.from({length: shown}, (_, i) => h("i", {class: i < Math.round(worker.running * shown / worker.slots) ? "busy" : ""})), h("span", {class: "muted", text: `${worker.running} of ${worker.slots}`})]));
    }
    const ids = worker.jobs.map((job) => job.id).join();
    if (n.jobs.dataset.key !== ids) {
      n.jobs.dataset.key = ids;
      n.jobs.replaceChildren(...worker.jobs.slice(0, 8).map((job) => h("li", {"data-face": "running", "data-id": job.id}, h("button", {class: "job", onclick: () => ask(this.model, "open", {id: job.id})}, job.name), h("span", {class: "mono muted args", text: job.args}),
        h("span", {class: "bar"}, h("i")), h("span", {class: "time"}))), ...(worker.jobs.length > 8 ? [h("li", {class: "muted", text: `and ${number(worker.jobs.length - 8)} more`})] : []));
    }
    worker.jobs.slice(0, 8).forEach((job, i) => {
      const bar = n.jobs.children[i].querySelector(".bar");
      bar.classList.toggle("unknown", job.progress == null);
      bar.firstChild.style.width = job.progress == null ? "" : `${job.progress * 100}%`;
    });
    this.showAct(line);
  }

  showAct(line) {
    const {worker, n} = line, may = this.model.get("may_act") && worker.state === "working", key = `${may}${line.asking}`;
    if (n.act.dataset.key === key) return;
    n.act.dataset.key = key;
    const say = (asking) => { line.asking = asking; this.showAct(line); };
    n.act.replaceChildren(...(!may ? [] : line.asking
      ? [h("button", {class: "btn small", text: "Keep", onclick: () => say(false)}), h("button", {class: "btn small danger", text: "End when idle", onclick: () => { say(false); ask(this.model, "drain", {id: worker.id}); }})]
      : [h("button", {class: "btn small quiet", text: "End…", title: "Finish its jobs, take no more, and end", onclick: () => say(true)})]));
  }

  tick() {
    this.showSince();
    for (const {worker, n} of this.lines.values()) {
      const silent = worker.beat_age_s + (this.now() - this.readAt) / 1000, up = worker.started_at ? (this.now() - Date.parse(worker.started_at)) / 1000 : null;
      const facts = [worker.host && `${worker.host}${worker.pid ? `, process ${worker.pid}` : ""}`];
      if (worker.state === "ended") facts.push(`last seen ${ago(silent)}`);
      else {
        if (up != null) facts.push(`up ${duration(Math.floor(up))}`);
        if (worker.done) facts.push(`${number(worker.done)} done`);
        if (worker.rss_bytes) facts.push(`CPU ${worker.cpu_percent} %`, bytes(worker.rss_bytes));
        if (silent > 10) facts.push(`silent for ${duration(Math.floor(silent))}`);
      }
      if (worker.version) facts.push(`jobkit ${worker.version}`);
      if (worker.python) facts.push(`Python ${worker.python}`);
      put(n.facts, facts.filter(Boolean).join(" · "));
      worker.jobs.slice(0, 8).forEach((job, i) => put(n.jobs.children[i].querySelector(".time"), job.started_at ? ticking((this.now() - Date.parse(job.started_at)) / 1000) : ""));
    }
  }

  showSince() {
    for (const el of this.root.querySelectorAll(".since")) put(el, `paused${el.dataset.by ? ` by ${el.dataset.by}` : ""}${el.dataset.at ? `, ${ago((this.now() - Date.parse(el.dataset.at)) / 1000)}` : ""}`);
  }

  showEmpty() {
    const code = "jobkit worker -t your_module", copy = h("button", {class: "btn small", onclick: () => copyText(code, copy)}, icon("copy"), "Copy");
    this.n.empty.replaceChildren(h("p", {class: "big", text: "No worker runs"}), h("p", {class: "muted", text: "Jobs wait until one does. Start one on any machine that reaches this Redis:"}),
      h("div", {class: "code"}, h("pre", {class: "mono", text: code}), copy));
  }

  showNotice() {
    const text = this.model.get("notice");
    this.n.notice.hidden = !text;
    this.n.notice.dataset.level = "error";
    this.n.notice.replaceChildren(icon("warn"), text || "");
  }
}

export default {render: (props) => mount(props, (model, el) => new Workers(model, el))};
