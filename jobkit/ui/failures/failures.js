// Failed jobs in groups (failures.py). Rows are made once and changed in place, so that focus, an open question and what
// was typed stay while failures arrive; rows keep their order while the pointer or the focus is among them.

const FAILURE_STATES = [["open", "To look at"], ["muted", "Muted"], ["resolved", "Resolved"]];

class Failures {
  constructor(model, el) {
    this.model = model;
    this.rows = new Map();
    this.skew = 0;
    const n = (this.n = {});
    n.noticeText = h("span");
    n.undo = h("button", {class: "btn small", text: "Undo", hidden: true, onclick: () => { ask(model, "reopen_group", {id: this.told.undo}); n.notice.hidden = true; }});
    n.notice = h("div", {class: "notice", role: "status", hidden: true}, n.noticeText, h("span", {class: "spring"}), n.undo,
      h("button", {class: "btn quiet small", "aria-label": "Close", onclick: () => { n.notice.hidden = true; }}, icon("close")));
    n.states = h("div", {class: "states", role: "group", "aria-label": "Which failures"});
    n.list = h("div", {class: "list"});
    n.empty = h("div", {class: "nothing", hidden: true});
    this.root = h("section", {class: "jk jk-failures", "aria-label": "Failures", onkeydown: (event) => this.key(event)}, n.notice, n.states, n.list, n.empty);
    el.append(this.root);
    this.stops = [followTheme(this.root), everySecond(() => this.tick(), this.root)];
    for (const [name, fn] of [["picture", () => this.show()], ["state", () => this.show()], ["group", () => this.show()], ["detail", () => this.showDetail()], ["notice", () => this.showNotice()]]) model.on(`change:${name}`, fn);
    this.show();
    ask(model, "hello");
  }

  close() { this.stops.forEach((stop) => stop()); }

  now() { return Date.now() + this.skew; }

  may(action) { return parse(this.model.get("actions"), []).includes(action); }

  show() {
    const data = parse(this.model.get("picture"), null), n = this.n, state = this.model.get("state"), open = this.model.get("group");
    if (!data) return;
    this.data = data;
    this.skew = Date.parse(data.now) - Date.now();
    this.showStates(data.counts, state);
    // An open group stays in place, also when it has just been muted or resolved.
    const shown = data.groups.filter((group) => group.id === open || (group.state === "regressed" ? "open" : group.state) === state);
    const keep = new Set(shown.map((group) => group.id));
    for (const [id, row] of this.rows) if (!keep.has(id)) { row.el.remove(); this.rows.delete(id); }
    for (const group of shown) this.fill(group, group.id === open);
    this.sort(shown);
    n.empty.hidden = Boolean(shown.length);
    if (!shown.length) this.showEmpty(state, data);
    this.showDetail();
    this.tick();
  }

  sort(shown) {
    const isBusy = this.n.list.matches(":hover") || this.n.list.contains(this.n.list.getRootNode().activeElement);
    const order = [...this.n.list.children];
    const wanted = shown.map((group) => this.rows.get(group.id).el);
    if (isBusy && order.every((el) => wanted.includes(el)) && order.length === wanted.length) return;
    let place = this.n.list.firstElementChild;
    for (const el of wanted) {
      if (el === place) place = place.nextElementSibling;
      else this.n.list.insertBefore(el, place);
    }
  }

  showStates(counts, state) {
    const key = JSON.stringify([counts, state]);
    if (this.n.states.dataset.key === key) return;
    this.n.states.dataset.key = key;
    if (!this.n.states.childElementCount) this.n.states.append(...FAILURE_STATES.map(([name, word]) => h("button", {"data-state": name, onclick: () => ask(this.model, "state", {state: name})}, word, h("b"))));
    for (const button of this.n.states.children) {
      button.setAttribute("aria-pressed", String(button.dataset.state === state));
      put(button.lastChild, counts[button.dataset.state] ? number(counts[button.dataset.state]) : "");
    }
  }

  fill(group, isOpen) {
    let row = this.rows.get(group.id);
    if (!row) {
      const n = {};
      row = {n};
      n.title = h("span", {class: "title"});
      n.chip = h("span", {class: "chip", "data-face": "retrying", hidden: true}, icon("retrying"), "Regressed");
      n.sub = h("div", {class: "sub"});
      n.spark = h("span", {class: "sparkline"});
      n.last = h("span");
      n.first = h("span");
      n.button = h("button", {class: "row", onclick: () => ask(this.model, "group", {id: this.model.get("group") === group.id ? "" : group.id})},
        h("i", {class: "arrow"}), h("div", null, h("div", {class: "head"}, n.title, n.chip), n.sub), n.spark,
        h("span", {class: "when"}, n.last, h("small", {text: "last"})), h("span", {class: "when first"}, n.first, h("small", {text: "first"})));
      n.detail = h("div", {class: "detail", hidden: true});
      row.el = h("div", {class: "group", "data-id": group.id}, n.button, n.detail);
      this.rows.set(group.id, row);
    } else if (row.group.count !== group.count) {
      row.el.classList.remove("changed");
      requestAnimationFrame(() => row.el.classList.add("changed"));
    }
    const n = row.n;
    row.group = group;
    row.el.dataset.state = group.state;
    row.el.toggleAttribute("data-open", isOpen);
    n.button.setAttribute("aria-expanded", String(isOpen));
    n.detail.hidden = !isOpen;
    put(n.title, group.title);
    n.title.title = group.title;
    n.chip.hidden = group.state !== "regressed";
    const paused = this.data.paused[group.task] ? "task paused" : "";
    const again = group.repeated ? `${number(group.repeated)} run again${group.healed ? `, ${number(group.healed)} healed` : ""}` : "";
    const kept = group.jobs === group.count ? "" : group.jobs ? `${number(group.jobs)} kept` : "none kept";
    put(n.sub, [group.where, group.task, `${number(group.count)} job${group.count === 1 ? "" : "s"}`, kept, again, paused].filter(Boolean).join(" · "));
    n.sub.title = n.sub.textContent;
    this.spark(n.spark, group);
  }

  /** One bar an hour, the last day; a flat line where nothing happened. */
  spark(box, group) {
    const key = group.hours.join();
    if (box.dataset.key === key) return;
    box.dataset.key = key;
    const NS = "http://www.w3.org/2000/svg", most = Math.max(1, ...group.hours), svg = document.createElementNS(NS, "svg");
    svg.setAttribute("class", "spark");
    svg.setAttribute("viewBox", "0 0 96 24");
    const total = group.hours.reduce((sum, count) => sum + count, 0);
    svg.setAttribute("role", "img");
    svg.setAttribute("aria-label", `${total} in the last 24 hours`);
    group.hours.forEach((count, i) => {
      const bar = document.createElementNS(NS, "rect"), height = count ? Math.max(3, (count / most) * 23) : 1;
      for (const [name, value] of Object.entries({x: i * 4, y: 24 - height, width: 3, height, class: count ? "" : "none"})) bar.setAttribute(name, value);
      svg.append(bar);
    });
    box.title = `${number(total)} in the last 24 hours`;
    box.replaceChildren(svg);
  }

  showDetail() {
    const open = this.model.get("group"), row = this.rows.get(open), detail = parse(this.model.get("detail"), null);
    if (!row) return;
    if (!row.do) this.buildDetail(row);
    this.showActions(row);
    if (!detail || detail.id !== open) return;
    const {now, ...rest} = detail, key = JSON.stringify(rest);
    if (row.key === key) return;
    row.key = key;
    row.detail = detail;
    const n = row.n;
    n.error.hidden = !detail.error;
    const errorKey = JSON.stringify([detail.error, detail.error_of]);
    if (detail.error && n.error.dataset.key !== errorKey) {
      n.error.dataset.key = errorKey;
      n.error.replaceChildren(...errorParts(detail.error, detail.chain));
      n.from.replaceChildren("of job ", this.link(detail.error_of));
    }
    n.same.hidden = !detail.shared.length && !detail.different.length;
    n.sameList.replaceChildren(...detail.shared.map(([name, value]) => h("code", {text: `${name}=${value}`})));
    put(n.sameTitle, detail.shared.length ? `In common to the newest ${number(detail.compared)}` : "No argument in common");
    put(n.differ, detail.different.length ? `They differ in ${detail.different.join(", ")}` : "");
    n.jobs.replaceChildren(...detail.jobs.map((job) => h("li", {"data-id": job.id}, this.link(job.id), h("span", {class: "mono", text: job.args, title: job.args}),
      h("span", {class: "mark muted", text: job.repeated ? "run again" : ""}), h("span", {class: "worker muted", text: job.worker, title: job.worker}),
      h("span", {class: "time muted", "data-at": job.finished_at || "", title: job.finished_at ? exact(job.finished_at) : ""}))));
    n.jobsTitle.hidden = !detail.jobs.length;
    n.more.hidden = !detail.more;
    this.tick();
  }

  link(id) { return h("button", {class: "link mono", text: id.slice(0, 8), title: `Open job ${id}`, onclick: () => ask(this.model, "open", {id})}); }

  buildDetail(row) {
    const n = row.n;
    row.do = n.do = h("div", {class: "do"});
    n.form = h("form", {hidden: true, onsubmit: (event) => this.submitChanges(event, row)});
    n.error = h("section", {class: "failure", "aria-label": "Newest error", hidden: true});
    n.from = h("p", {class: "from"});
    n.sameTitle = h("h3");
    n.sameList = h("div", {class: "args"});
    n.differ = h("p", {class: "differ"});
    n.same = h("section", null, n.sameTitle, n.sameList, n.differ);
    n.jobsTitle = h("h3", {text: "Newest jobs", hidden: true});
    n.jobs = h("ul", {class: "jobs"});
    n.more = h("button", {class: "btn small", text: "Show more", hidden: true, onclick: () => ask(this.model, "more")});
    n.detail.append(n.do, n.form, n.error, n.from, n.same, n.jobsTitle, n.jobs, h("div", {class: "foot"}, n.more));
  }

  showActions(row) {
    const {group, n} = row, key = JSON.stringify([group.id, group.state, group.waiting, group.jobs, row.asking || "", this.model.get("actions"), this.data.paused[group.task]]);
    if (n.do.dataset.key === key) return;
    const hadFocus = n.do.contains(n.do.getRootNode().activeElement);
    n.do.dataset.key = key;
    const act = (action, more) => () => { row.asking = ""; ask(this.model, action, {id: group.id, ...more}); this.showActions(row); };
    const question = (name) => () => { row.asking = name; this.showActions(row); };
    const jobs = (count) => `${number(count)} job${count === 1 ? "" : "s"}`;
    let parts;
    if (row.asking === "retry_group" || row.asking === "drop_group") {
      const retry = row.asking === "retry_group";
      parts = [h("span", {class: "ask", text: retry ? `Run ${jobs(group.waiting)} again?` : `Delete ${jobs(group.jobs)} with their logs, and forget the group?`}),
        h("button", {class: retry ? "btn primary" : "btn danger", text: retry ? `Run ${jobs(group.waiting)} again` : `Delete ${jobs(group.jobs)}`, onclick: act(row.asking)}),
        h("button", {class: "btn", text: "Keep as it is", onclick: question("")})];
    } else {
      const quiet = group.state === "muted" || group.state === "resolved";
      parts = [
        this.may("retry_group") && h("button", {class: "btn primary", disabled: !group.waiting, title: group.waiting ? "" : "All of them have been run again, or are gone", text: group.waiting ? `Retry all ${number(group.waiting)}` : "Retry all", onclick: question("retry_group")}),
        this.may("retry_group") && group.waiting > 0 && h("button", {class: "btn", text: "Retry with changes", onclick: () => this.openForm(row)}),
        this.may("mute_group") && group.state !== "muted" && h("button", {class: "btn", text: "Mute", title: "Known: not to be shown, goes on counting", onclick: act("mute_group")}),
        this.may("resolve_group") && group.state !== "resolved" && h("button", {class: "btn", text: "Resolve", title: "Mended: if it fails again it comes back as regressed", onclick: act("resolve_group")}),
        this.may("reopen_group") && quiet && h("button", {class: "btn", text: "Open again", onclick: act("reopen_group")}),
        this.may("pause_task") && (this.data.paused[group.task]
          ? h("button", {class: "btn far", text: `Resume ${group.task}`, title: "Let jobs of this task start again", onclick: () => ask(this.model, "resume_task", {id: group.id, task: group.task})})
          : h("button", {class: "btn far", text: `Pause ${group.task}`, title: "No more jobs of this task start until it is resumed", onclick: () => ask(this.model, "pause_task", {id: group.id, task: group.task})})),
        this.may("drop_group") && h("button", {class: "btn far", text: "Drop", title: "Delete its jobs and forget the group", onclick: question("drop_group")})];
      if (quiet) parts.unshift(h("span", {class: "ask muted", text: `${group.state === "muted" ? "Muted" : "Resolved"}${group.changed_by ? ` by ${group.changed_by}` : ""}${group.changed_at ? `, ${ago((this.now() - Date.parse(group.changed_at)) / 1000)}` : ""}`}));
    }
    n.do.replaceChildren(...parts.filter(Boolean));
    if (hadFocus) n.do.querySelector("button")?.focus();
  }

  openForm(row) {
    const form = row.n.form, detail = row.detail;
    if (!form.hidden) { form.hidden = true; return; }
    form.hidden = false;
    if (!detail || !detail.params.length) {
      form.replaceChildren(h("p", {text: detail && detail.id ? `No worker has made the arguments of ${detail.task} known, so they cannot be checked here. Change them from Python: kit.get(id).rerun(n=5).` : "Loading…"}), h("button", {class: "btn", type: "button", text: "Close", onclick: () => { form.hidden = true; }}));
      return;
    }
    const count = row.group.waiting;
    form.replaceChildren(h("p", {text: `Fill in what is to be different; the rest stays as it was${count > 1 ? ` in each of the ${number(count)} jobs` : ""}.`}),
      ...detail.params.map((param) => {
        const id = `p-${row.group.id}-${param.name}`;
        const field = h("div", {class: "field"}, h("label", {for: id, class: "mono", text: param.name}),
          h("input", {id, name: param.name, autocomplete: "off", spellcheck: "false", placeholder: param.differs ? "as it was, differs" : param.value ? `${param.value}, as it was` : "as it was",
            oninput: (event) => field.classList.toggle("changed", Boolean(event.target.value))}), h("small", {text: param.what}));
        return field;
      }),
      h("div", {class: "do"}, h("button", {class: "btn primary", type: "submit", text: `Retry ${number(count)} with changes`}), h("button", {class: "btn", type: "button", text: "Cancel", onclick: () => { form.hidden = true; }})));
    form.querySelector("input").focus();
  }

  submitChanges(event, row) {
    event.preventDefault();
    const changes = {};
    for (const input of row.n.form.querySelectorAll("input")) if (input.value) changes[input.name] = {text: input.value};
    if (!Object.keys(changes).length) return row.n.form.querySelector("input").focus();
    row.sent = true;
    ask(this.model, "retry_group", {id: row.group.id, changes});
  }

  showNotice() {
    const told = (this.told = parse(this.model.get("notice"), null)), n = this.n;
    n.notice.hidden = !told;
    if (!told) return;
    n.notice.dataset.level = told.level;
    put(n.noticeText, told.text);
    n.undo.hidden = !told.undo;
    clearTimeout(this.fading);
    if (told.level === "info") {
      this.fading = setTimeout(() => { n.notice.hidden = true; }, 8000);
      for (const row of this.rows.values()) if (row.sent) { row.sent = false; row.n.form.hidden = true; }
    }
  }

  showEmpty(state, data) {
    const n = this.n, others = FAILURE_STATES.filter(([name]) => name !== state && data.counts[name]).map(([name, word]) => `${number(data.counts[name])} ${word.toLowerCase()}`);
    const key = JSON.stringify([state, others]);
    if (n.empty.dataset.key === key) return;
    n.empty.dataset.key = key;
    const parts = state === "open"
      ? [icon("succeeded"), h("p", {class: "big", text: "Nothing has failed"}), h("p", {text: "When jobs fail, those with the same error at the same place stand here as one: run them again together, with other arguments if need be, or say that it is known or mended."})]
      : [h("p", {class: "big", text: state === "muted" ? "Nothing is muted" : "Nothing is resolved"}), h("p", {text: state === "muted" ? "A muted group goes on counting, and is not among those to look at." : "A resolved group that fails again comes back as regressed."})];
    if (state === "open" && others.length) parts[1].textContent = "Nothing to look at";
    if (others.length) parts.push(h("p", {text: others.join(", ")}));
    parts.push(h("p", null, "In a terminal: ", h("code", {text: "jobkit failed list"})));
    n.empty.replaceChildren(...parts);
  }

  /** What changes with the time alone. */
  tick() {
    const since = (iso) => ago((this.now() - Date.parse(iso)) / 1000);
    for (const {group, n} of this.rows.values()) {
      put(n.last, since(group.last_seen));
      put(n.first, since(group.first_seen));
      n.last.title = exact(group.last_seen);
      n.first.title = exact(group.first_seen);
    }
    for (const el of this.root.querySelectorAll(".jobs .time")) if (el.dataset.at) put(el, since(el.dataset.at));
  }

  key(event) {
    if (isTyping(event) || !["ArrowDown", "ArrowUp", "j", "k", "Escape"].includes(event.key)) return;
    const buttons = [...this.n.list.querySelectorAll(".row")], at = buttons.indexOf(focused());
    if (event.key === "Escape") { if (this.model.get("group")) ask(this.model, "group", {id: ""}); return; }
    if (at < 0) return;
    event.preventDefault();
    buttons[Math.min(buttons.length - 1, Math.max(0, at + (event.key === "ArrowDown" || event.key === "j" ? 1 : -1)))].focus();
  }
}

export default {render: (props) => mount(props, (model, el) => new Failures(model, el))};
