// Failed jobs in groups (failures_page.py). Rows keep their order while the pointer or the focus is among them, and what
// was typed stays while failures arrive.

const FAILURE_STATES = [["open", "Open"], ["muted", "Muted"], ["resolved", "Resolved"]];

/** Headline and sentence for a state without groups. */
const NO_FAILURES = {
  open: ["Nothing has failed", "Failed jobs with the same error at the same place are listed here as one group. Retry them together, with other arguments if needed, or mark the group as known or fixed."],
  muted: ["Nothing is muted", "A muted group still counts failures, but is not listed as open."],
  resolved: ["Nothing is resolved", "A resolved group that fails again is listed as regressed."],
};

class Failures extends FeedPage {
  build() {
    const n = this.n;
    n.states = h("div", {class: "states", role: "group", "aria-label": "Which failures"}, FAILURE_STATES.map(([name, word]) => h("button", {"data-state": name, onclick: () => ask(this.model, "state", {state: name})}, word, h("b"))));
    n.list = h("div", {class: "list"});
    this.on({state: () => this.load(), group: () => this.load(), detail: () => this.showDetail()});
    return [n.states, n.list];
  }

  get open() { return this.model.get("group"); }

  show({groups, counts}) {
    const n = this.n, state = this.model.get("state"), open = this.open;
    for (const button of n.states.children) {
      button.setAttribute("aria-pressed", String(button.dataset.state === state));
      put(button.lastChild, counts[button.dataset.state] ? number(counts[button.dataset.state]) : "");
    }
    // An open group stays in place, also when it has just been muted or resolved.
    const shown = groups.filter((group) => group.id === open || (group.state === "regressed" ? "open" : group.state) === state);
    const before = new Map([...this.rows].map(([id, {item}]) => [id, item.count])), isBusy = n.list.matches(":hover") || n.list.contains(n.list.getRootNode().activeElement);
    for (const row of this.keyed(n.list, shown, "id", (group) => this.row(group), isBusy)) this.fill(row, row.item.id === open, before.get(row.item.id));
    this.showNothing(!shown.length, state, counts);
    this.showDetail();
  }

  showNothing(isEmpty, state, counts) {
    const others = FAILURE_STATES.filter(([name]) => name !== state && counts[name]).map(([name, word]) => `${number(counts[name])} ${word.toLowerCase()}`), [big, small] = NO_FAILURES[state];
    this.n.empty.hidden = !isEmpty;
    if (!isEmpty || !isNew(this.n.empty, [state, others])) return;
    this.n.empty.replaceChildren(state === "open" ? icon("succeeded") : "", h("p", {class: "big", text: state === "open" && others.length ? "Nothing to look at" : big}), h("p", {text: small}),
      others.length ? h("p", {text: others.join(", ")}) : "", h("p", null, "In a terminal: ", h("code", {text: "jobkit failures"})));
  }

  row(group) {
    const n = {title: h("span", {class: "title"}), chip: h("span", {class: "chip small", "data-face": "retrying", hidden: true}, icon("retrying"), "Regressed"), sub: h("div", {class: "sub"}), spark: h("span", {class: "sparkline"}),
      last: h("span"), first: h("span"), detail: h("div", {class: "detail", hidden: true})};
    n.button = h("button", {class: "row", onclick: () => ask(this.model, "group", {id: this.open === group.id ? "" : group.id})},
      h("i", {class: "arrow"}), h("div", null, h("div", {class: "head"}, n.title, n.chip), n.sub), n.spark,
      h("span", {class: "when"}, n.last, h("small", {text: "last"})), h("span", {class: "when first"}, n.first, h("small", {text: "first"})));
    return {n, el: h("div", {class: "group", "data-id": group.id}, n.button, n.detail)};
  }

  fill({n, el, item: group}, isOpen, before = group.count) {
    if (before !== group.count) {
      el.classList.remove("changed");
      requestAnimationFrame(() => el.classList.add("changed"));
    }
    el.dataset.state = group.state;
    el.toggleAttribute("data-open", isOpen);
    n.button.setAttribute("aria-expanded", String(isOpen));
    n.detail.hidden = !isOpen;
    put(n.title, group.title);
    n.title.title = group.title;
    n.chip.hidden = group.state !== "regressed";
    const again = group.repeated && `${number(group.repeated)} run again${group.healed ? `, ${number(group.healed)} healed` : ""}`;
    const kept = group.jobs !== group.count && (group.jobs ? `${number(group.jobs)} kept` : "none kept");
    put(n.sub, dotted(group.where, group.task, many(group.count, "job"), kept, again, this.data.paused[group.task] && "task paused"));
    n.sub.title = n.sub.textContent;
    for (const [el, at] of [[n.last, group.last_seen], [n.first, group.first_seen]]) Object.assign(el, {title: exact(at)}).dataset.at = at;
    this.spark(n.spark, group.hours);
  }

  /** One bar an hour, the last day; a flat line where nothing happened. */
  spark(box, hours) {
    if (!isNew(box, hours)) return;
    const most = Math.max(1, ...hours), total = hours.reduce((sum, count) => sum + count, 0);
    const bars = hours.map((count, i) => {
      const height = count ? Math.max(3, (count / most) * 23) : 1;
      return svg("rect", {x: i * 4, y: 24 - height, width: 3, height, class: count ? "" : "none"});
    });
    box.title = `${number(total)} in the last 24 hours`;
    box.replaceChildren(svg("svg", {class: "spark", viewBox: "0 0 96 24", role: "img", "aria-label": box.title}, ...bars));
  }

  showDetail() {
    const {open} = this, row = this.rows.get(open), detail = parse(this.model.get("detail"), null);
    if (!row) return;
    if (!row.do) this.buildDetail(row);
    this.showActions(row);
    if (!detail || detail.id !== open || detail.gone) return;
    const n = row.n;
    if (!isNew(n.detail, detail)) return;
    row.detail = detail;
    n.error.hidden = !detail.error;
    if (detail.error && isNew(n.error, [detail.error, detail.error_of])) {
      n.error.replaceChildren(...errorParts(detail.error, detail.chain));
      n.from.replaceChildren("of job ", this.link(detail.error_of));
    }
    n.same.hidden = !detail.shared.length && !detail.different.length;
    n.sameList.replaceChildren(...detail.shared.map(([name, value]) => h("code", {text: `${name}=${value}`})));
    put(n.sameTitle, detail.shared.length ? `Shared by the newest ${number(detail.compared)}` : "No shared arguments");
    put(n.differ, detail.different.length ? `They differ in ${detail.different.join(", ")}` : "");
    n.jobs.replaceChildren(...detail.jobs.map((job) => h("li", {"data-id": job.id}, this.link(job.id), h("span", {class: "mono", text: job.args, title: job.args}),
      h("span", {class: "owner muted", text: job.owner, title: job.owner}), h("span", {class: "mark muted", text: job.repeated ? "run again" : ""}), h("span", {class: "worker muted", text: job.worker, title: job.worker}),
      h("span", {class: "time muted", "data-at": job.finished_at, title: job.finished_at ? exact(job.finished_at) : ""}))));
    n.jobsTitle.hidden = !detail.jobs.length;
    n.more.hidden = !detail.more;
    this.tick();
  }

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
    const {item: group, n} = row, paused = this.data.paused[group.task];
    if (!isNew(n.do, [group.state, group.waiting, group.jobs, row.asking, this.model.get("actions"), paused])) return;
    const hadFocus = n.do.contains(n.do.getRootNode().activeElement);
    const act = (action, id = group.id) => () => { row.asking = ""; this.act(action, id); this.showActions(row); };
    const question = (name) => () => { row.asking = name; this.showActions(row); };
    const jobs = (count) => many(count, "job");
    let parts;
    if (row.asking === "retry_group" || row.asking === "drop_group") {
      const retry = row.asking === "retry_group";
      parts = [h("span", {class: "ask", text: retry ? `Retry ${jobs(group.waiting)}?` : `Delete ${jobs(group.jobs)} with their logs, and the group?`}),
        h("button", {class: retry ? "btn primary" : "btn danger", text: retry ? `Retry ${jobs(group.waiting)}` : `Delete ${jobs(group.jobs)}`, onclick: act(row.asking)}),
        h("button", {class: "btn", text: "Cancel", onclick: question("")})];
    } else {
      const quiet = group.state === "muted" || group.state === "resolved";
      parts = [
        this.may("retry_group") && h("button", {class: "btn primary", disabled: !group.waiting, title: group.waiting ? "" : "All of its jobs have been retried or deleted", text: group.waiting ? `Retry all ${number(group.waiting)}` : "Retry all", onclick: question("retry_group")}),
        this.may("retry_group") && group.waiting > 0 && h("button", {class: "btn", text: "Retry with changes", onclick: () => this.openForm(row)}),
        this.may("mute_group") && group.state !== "muted" && h("button", {class: "btn", text: "Mute", title: "Known: hide it, but still count failures", onclick: act("mute_group")}),
        this.may("resolve_group") && group.state !== "resolved" && h("button", {class: "btn", text: "Resolve", title: "Fixed: if it fails again, it is listed as regressed", onclick: act("resolve_group")}),
        this.may("reopen_group") && quiet && h("button", {class: "btn", text: "Open again", onclick: act("reopen_group")}),
        this.may("pause_task") && (paused
          ? h("button", {class: "btn far", text: `Resume ${group.task}`, title: "Resume starting jobs of this task", onclick: act("resume_task", group.task)})
          : h("button", {class: "btn far", text: `Pause ${group.task}`, title: "Start no more jobs of this task until it is resumed", onclick: act("pause_task", group.task)})),
        this.may("drop_group") && h("button", {class: "btn far", text: "Delete group", title: "Delete its jobs and the group", onclick: question("drop_group")})];
      if (quiet) parts.unshift(h("span", {class: "ask muted", text: `${group.state === "muted" ? "Muted" : "Resolved"}${group.changed_by ? ` by ${group.changed_by}` : ""}${group.changed_at ? `, ${ago(this.since(group.changed_at))}` : ""}`}));
    }
    n.do.replaceChildren(...parts.filter(Boolean));
    if (hadFocus) n.do.querySelector("button")?.focus();
  }

  openForm(row) {
    const form = row.n.form, detail = row.detail;
    if (!form.hidden) { form.hidden = true; return; }
    form.hidden = false;
    if (!detail || !detail.params.length) {
      form.replaceChildren(h("p", {text: detail && detail.id ? `The arguments of this ${detail.task} are not known here, so they cannot be checked. Change them from Python: jobkit.connect().get(id).rerun(n=5).` : "Loading…"}), h("button", {class: "btn", type: "button", text: "Close", onclick: () => { form.hidden = true; }}));
      return;
    }
    const count = row.item.waiting;
    form.replaceChildren(h("p", {text: `Fill in the arguments to change; the others stay as they were${count > 1 ? ` in each of the ${number(count)} jobs` : ""}.`}),
      ...detail.params.map((param) => {
        const id = `p-${row.item.id}-${param.name}`;
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
    this.act("retry_group", row.item.id, {changes});
  }

  showNotice() {
    super.showNotice();
    if (this.told.level === "info") for (const row of this.rows.values()) if (row.sent) { row.sent = false; row.n.form.hidden = true; }
  }

  key(event) {
    if (isTyping(event) || !["ArrowDown", "ArrowUp", "j", "k", "Escape"].includes(event.key)) return;
    const buttons = [...this.n.list.querySelectorAll(".row")], at = buttons.indexOf(focused());
    if (event.key === "Escape") { if (this.open) ask(this.model, "group", {id: ""}); return; }
    if (at < 0) return;
    event.preventDefault();
    buttons[Math.min(buttons.length - 1, Math.max(0, at + (event.key === "ArrowDown" || event.key === "j" ? 1 : -1)))].focus();
  }
}

export default {render: (props) => mount(props, (model, el) => new Failures(model, el, "Failures"))};
