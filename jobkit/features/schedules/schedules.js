// Schedules (schedules_page.py): a row each, and a form that shows the next times while the user types.

const RULES = {
  missed: {once: "run the newest once", skip: "skip them", all: "run them all"},
  overlap: {allow: "start the next one anyway", skip: "skip the next one", wait: "start the next one when it has ended"},
};
const WHYS = {missed: "missed: no worker", overlap: "the previous run had not ended"};

/** Runs that have a bar. */
const RUN_BARS = 14;

class Schedules extends FeedPage {
  build() {
    const n = this.n;
    n.sum = h("p", {class: "sum", role: "status", text: "Looking for schedules…"});
    n.add = h("button", {class: "btn", text: "New schedule", hidden: !this.may("pause_schedule"), onclick: () => this.edit(null)});
    n.form = h("div", {class: "formbox", hidden: true});
    n.list = h("div", {class: "list", role: "list", "aria-label": "Schedules", hidden: true});
    this.on({reply: () => this.form?.answer(parse(this.model.get("reply"), {})), tasks: () => this.form?.showTasks()});
    return [h("div", {class: "top"}, n.sum, h("span", {class: "spring"}), n.add), n.form, n.list];
  }

  close() {
    super.close();
    this.form?.close();
  }

  // -- rows --------------------------------------------------------------------------------------------------------

  show({schedules}) {
    const n = this.n, count = schedules.length, paused = schedules.filter((one) => one.state === "paused").length;
    for (const row of this.keyed(n.list, schedules, "name", (one) => this.row(one))) this.fill(row);
    put(n.sum, count ? dotted(many(count, "schedule"), paused && `${number(paused)} paused`) : "");
    n.list.hidden = !count;
    this.showNone();
  }

  showNone() {
    this.showEmpty(this.data && !this.data.schedules.length && this.n.form.hidden, "No schedules", "Run a task every morning, every five minutes, or once tonight:",
      'kit = jobkit.connect()\nkit.schedule(report, {"day": "today"}, cron="0 6 * * *", tz="Europe/Berlin")\nkit.schedules()');
  }

  row({name}) {
    const n = {...spans({task: "mono muted task", sentence: "sentence", cron: "mono muted", exact: "muted exact", act: "act"}), next: h("b", {class: "next"}),
      bars: h("span", {class: "bars", role: "list", "aria-label": "Last runs", onkeydown: stepFocus}), more: h("div", {class: "more", hidden: true})}, row = {n};
    n.name = h("button", {class: "name", "aria-expanded": "false", title: name, onclick: () => { row.open = !row.open; this.showMore(row); }}, h("span", {text: name}));
    row.el = h("div", {class: "schedule", role: "listitem", "data-name": name}, h("div", {class: "line"}, h("div", {class: "what"}, n.name, n.task), h("div", {class: "when"}, n.sentence, n.cron), h("div", {class: "due"}, n.next, n.exact), n.bars, n.act), n.more);
    return row;
  }

  fill(row) {
    const {n, el, item: one} = row, title = one.title === one.name ? "" : one.title;
    el.dataset.state = one.state;
    n.task.title = `${one.task}(${one.args})`;
    if (isNew(n.task, [one.args, title])) n.task.replaceChildren(title && h("span", {class: "title", text: title}), one.args);
    put(n.sentence, one.sentence);
    put(n.cron, one.cron);
    if (isNew(n.bars, one.runs)) this.showBars(row);
    this.showAct(row);
    if (row.open) this.showMore(row);
  }

  showBars({n, item: {runs}}) {
    const most = Math.max(...runs.map((run) => run.seconds || 0), 0.001);
    const bars = [...runs].reverse().map((run) => {
      const height = run.job_id ? Math.max(4, Math.round(24 * (run.seconds || 0) / most)) : 4, label = runText(run);
      const props = {class: `run${run.job_id ? "" : " none"}`, role: "listitem", "data-face": faceOf(run), title: label, "aria-label": label, style: `--h: ${height}px`};
      return run.job_id ? h("button", {...props, tabindex: -1, onclick: () => ask(this.model, "open", {id: run.job_id})}) : h("span", props);
    });
    const newest = bars.findLast((bar) => bar.tagName === "BUTTON");
    if (newest) newest.tabIndex = 0;
    n.bars.replaceChildren(...Array.from({length: RUN_BARS - bars.length}, () => h("i", {class: "run empty", "aria-hidden": "true"})), ...bars);
  }

  showAct({n, item: {name, state}}) {
    const may = this.may("pause_schedule"), on = state !== "paused", ended = state === "ended";
    if (!isNew(n.act, [may, state])) return;
    n.act.replaceChildren(...(may ? [
      h("button", {class: "switch", role: "switch", "aria-checked": String(on && !ended), disabled: ended, "aria-label": `${name} fires`, title: ended ? "No runs left" : on ? "Pause" : "Resume", onclick: () => this.act(on ? "pause_schedule" : "resume_schedule", name)}, h("i")),
      h("button", {class: "btn small", text: "Run now", title: "Run it once now; its next times do not change", onclick: ({currentTarget: button}) => { button.disabled = true; setTimeout(() => { button.disabled = false; }, 1500); this.act("run_schedule", name); }})] : []));
  }

  /** Next times, last runs and rules of one schedule, below its row. */
  showMore(row) {
    const {n, item: one} = row, may = this.may("pause_schedule");
    n.name.setAttribute("aria-expanded", String(Boolean(row.open)));
    n.more.hidden = !row.open;
    if (!row.open || !isNew(n.more, [one.runs, one.next, one.state, row.asking, may, one.missed, one.overlap])) return;
    const facts = [["Task", one.task], ["Queue", one.queue], ["Missed times", RULES.missed[one.missed]], ["If the previous run has not ended", RULES.overlap[one.overlap]], ["Until", one.until && `${one.until.replace("T", " ")} ${one.tz}`], ["Runs", one.count ? `${number(one.fired)} of ${number(one.count)}` : number(one.fired)],
      ["Skipped", one.left_out ? number(one.left_out) : ""], ["From the code", one.from_code]];
    const section = (title, empty, ...parts) => h("section", null, h("h3", {text: title}), empty ? h("p", {class: "muted", text: empty}) : parts);
    const run = (each) => h("li", {"data-face": faceOf(each)}, icon(each.job_id ? faceOf(each) : "info"), each.job_id ? this.link(each.job_id, each.text, "job") : h("span", {text: each.text}), h("span", {class: "muted", text: runText(each, true)}));
    n.more.replaceChildren(h("div", {class: "cols"},
      section(one.state === "paused" ? "Next, once resumed" : "Next", !one.next.length && "No runs left.", timesOf(one.next, one.tz)),
      section("Last runs", !one.runs.length && "No runs yet.", h("ol", {class: "runs"}, one.runs.map(run))),
      section("Rules", "", h("dl", null, facts.filter(([, value]) => value).flatMap(([name, value]) => [h("dt", {class: "muted", text: name}), h("dd", {text: value})])))),
    may ? h("div", {class: "foot"}, row.asking ? h("span", {text: one.from_code ? "Remove it? A worker with this task creates it again when it starts. Pause it to stop it." : "Remove it? Its jobs are kept."}) : [h("button", {class: "btn small", text: "Edit", onclick: () => this.edit(one)}), h("span", {class: "gap"})],
      this.question(row, "Remove…", "", "Remove", () => this.act("remove_schedule", one.name), () => this.showMore(row))) : "");
    super.tick();
  }

  tick() {
    super.tick();
    for (const {n, el, item: one} of this.rows.values()) {
      const next = one.next[0], ahead = next ? -this.since(next.at) : null;
      const late = one.late_s ? one.late_s + (this.now() - this.readAt) / 1000 : one.state === "on" && ahead != null && ahead < -1.5 ? -ahead : 0;
      el.classList.toggle("late", late > 0);
      put(n.next, {paused: "Paused", ended: "Ended", held: "After the previous run"}[one.state] || (late ? [`${duration(late)} late`, one.why].filter(Boolean).join(", ") : ago(-ahead)));
      const due = one.state === "on" && one.late || next;  // of the run that is said to be late
      put(n.exact, due && one.state !== "ended" ? `${due.text} ${one.tz}` : "");
      n.exact.title = due ? exact(due.at) : "";
    }
  }

  // -- the form ----------------------------------------------------------------------------------------------------

  /** Open the form of a new schedule, or of the existing schedule `one`. */
  edit(one) {
    this.form?.close();
    this.form = new ScheduleForm(this, one);
    this.n.form.replaceChildren(this.form.root);
    this.n.form.hidden = false;
    this.n.empty.hidden = true;
    this.form.begin();
  }

  leave() {
    const name = this.form.one?.name;
    this.form.close();
    this.form = null;
    this.n.form.hidden = true;
    this.n.form.replaceChildren();
    this.showNone();
    (name ? this.rows.get(name)?.n.name : this.n.add)?.focus();
  }
}

/** The form of a new schedule, or of the existing schedule `one` (schedules_page.py). */
class ScheduleForm extends Fields {
  constructor(page, one) {
    super();
    const n = {}, kinds = [["cron", "Cron line"], ["every", "Interval"], ["at", "Once"]];
    Object.assign(this, {page, model: page.model, one, n, kind: !one || one.cron ? "cron" : one.every ? "every" : "at"});
    const option = (name, shown, kind, usual, help, more) => this.field({name: `option:${name}`, shown, kind, help, range: "", default: usual || "", option: true, ...more});
    const rule = (name, shown, usual) => option(name, shown, "choice", one ? one[name] : usual, "", {choices: Object.entries(RULES[name]).map(([value, words]) => [words, value])});
    n.kinds = radios(kinds, (kind) => { this.kind = kind; this.showKind(); this.changed(); }, {"aria-label": "When"});
    n.task = h("div", {class: "fields"});
    n.params = h("div", {class: "fields"});
    n.trouble = h("p", {class: "message", role: "alert", hidden: true});
    n.preview = h("div", {class: "preview", "aria-live": "polite"});
    n.save = h("button", {class: "btn primary", type: "button", text: one ? "Save" : "Schedule", onclick: () => this.save()});
    const title = one ? `Edit ${one.name}` : "New schedule", zone = Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC";
    this.root = h("form", {class: "edit jk-fields", novalidate: true, "aria-label": title, onsubmit: (event) => { event.preventDefault(); this.save(); }, onkeydown: (event) => { if (event.key === "Escape") page.leave(); }},
      h("h2", {text: title}),
      h("div", {class: "sides"},
        h("div", null, !one && n.task,
          h("div", {class: "fields"},
            !one && option("name", "Name", "str", "", "Replaces a schedule of that name.", {placeholder: "from task and arguments", is_code: true}),
            h("div", {class: "field wide"}, h("div", {class: "line"}, h("span", {class: "label", text: "When"})), n.kinds.el),
            option("cron", "Cron line", "str", one?.cron, "minute hour day month weekday, or @daily, @hourly, @weekly", {placeholder: "0 6 * * MON-FRI", is_code: true}),
            option("every", "Seconds between two runs", "float", one?.every, "", {placeholder: "300"}), option("at", "At", "datetime", one?.at),
            option("tz", "Time zone", "str", one ? one.tz : zone, "", {placeholder: "UTC", is_code: true})),
          n.params,
          h("details", {class: "rules"}, h("summary", {text: "Rules and end"}), h("div", {class: "fields"},
            rule("missed", "Times that were missed (no worker)", "once"), option("missed_limit", "Maximum number of missed times to run", "int", one ? one.missed_limit : 100), rule("overlap", "If the previous run has not ended", "allow"),
            option("until", "No run after", "datetime", one?.until), option("count", "Maximum number of runs", "int", one?.count, "", {placeholder: "no limit"})))),
        h("aside", {class: "side"}, h("h3", {text: "Next five times"}), n.preview)),
      n.trouble, h("div", {class: "foot"}, n.save, h("button", {class: "btn", type: "button", text: "Cancel", onclick: () => page.leave()})));
    this.showKind();
    this.showTasks();
  }

  /** Once it is on the page. */
  begin() {
    ask(this.model, "tasks");
    this.changed();
    [...this.root.querySelectorAll("select,input")].find((el) => el.offsetParent)?.focus();
    this.root.scrollIntoView({block: "nearest"});
  }

  close() { clearTimeout(this.timer); }

  showKind() {
    this.n.kinds.mark(this.kind);
    for (const kind of ["cron", "every", "at"]) this.fields.get(`option:${kind}`).el.hidden = kind !== this.kind;
    this.fields.get("option:tz").el.hidden = this.kind === "every";
  }

  showTasks() {
    const tasks = parse(this.model.get("tasks"), []), chosen = this.fields.get("option:task")?.get();
    this.tasks = new Map(tasks.map((task) => [task.name, task]));
    if (!this.one) {
      const choices = tasks.map(({name, title}) => [title === name ? name : `${name}: ${title}`, name]);
      this.n.task.replaceChildren(this.field({name: "option:task", shown: "Task", kind: "choice", choices, range: "", option: true}, chosen || undefined));
    }
    this.showParams();
  }

  /** Show a field for each argument. An untouched field keeps the default, or the value of the schedule. */
  showParams() {
    const {one} = this, name = one ? one.task : this.options().task, task = this.tasks.get(name);
    if (!isNew(this.n.params, [name, task])) return;
    this.task = task;
    for (const key of [...this.fields.keys()]) if (!key.startsWith("option:")) this.fields.delete(key);
    this.groups.clear();
    this.n.params.replaceChildren(...(task ? task.params.map((spec) => this.field(spec, one?.params[spec.name])) : []),
      one && !task && Object.keys(one.params).length ? h("p", {class: "hint muted wide", text: "Change its arguments where the function is defined: kit.schedule(...) with the same name."}) : "");
    this.untouched = JSON.stringify(this.collect(task?.params || []));
  }

  /** Return the typed texts; arguments only if they differ from those of the schedule. */
  asked() {
    const {one} = this, {task, name, ...options} = this.options(), fields = this.collect(this.task?.params || []);
    for (const kind of ["cron", "every", "at"]) if (kind !== this.kind) options[kind] = "";
    return {task: one ? one.task : task, name: one ? one.name : name, is_new: !one, options, ...((!one || JSON.stringify(fields) !== this.untouched) && {fields})};
  }

  /** Ask for the next times a moment after the last key. */
  changed() {
    this.showParams();
    this.mark();
    clearTimeout(this.timer);
    this.timer = setTimeout(() => ask(this.model, "preview", this.asked()), 250);
  }

  save() {
    clearTimeout(this.timer);
    this.isTried = true;
    this.isSaving = this.n.save.disabled = ask(this.model, "save", this.asked());
  }

  answer(reply) {
    const isSave = reply.doing === "save";
    if (isSave) this.isSaving = this.n.save.disabled = false;
    else if (this.isSaving) return;
    if (reply.saved) return this.page.leave();
    const isShown = ([name]) => (this.of(name) ? this.isTried || this.isChanged(this.of(name)) : isSave);
    this.showErrors(Object.fromEntries(Object.entries(reply.errors).filter(isShown)), this.n.trouble, isSave);
    this.n.preview.replaceChildren(...(reply.sentence ? [h("p", {class: "sentence", text: reply.sentence}), timesOf(reply.next)] : [h("p", {class: "muted", text: "Appear here while you type."})]));
    this.page.tick();
  }
}

/** Move the focus among the bars of a schedule, of which one is a stop of the Tab key, with the arrow keys. */
function stepFocus(event) {
  const bars = [...event.currentTarget.querySelectorAll("button")], step = {ArrowRight: 1, ArrowLeft: -1}[event.key], to = bars[bars.indexOf(event.target) + step];
  if (!to) return;
  event.preventDefault();
  [event.target.tabIndex, to.tabIndex] = [-1, 0];
  to.focus();
}

/** Times, each with how far away it is. */
function timesOf(times, zone = "") { return h("ol", {class: "times"}, times.map(({at, text}) => h("li", null, h("b", {"data-at": at}), h("span", {class: "muted", text: `${text} ${zone}`.trim()})))); }

function faceOf(run) { return run.job_id ? run.state || "cancelled" : "cancelled"; }

/** `3 Nov 03:00 · Succeeded · 4.2 s · 12 s late`. */
function runText(run, short) {
  const what = run.job_id ? WORDS[run.state] || "no longer kept" : run.count > 1 ? `${number(run.count)}${run.count >= 1000 ? " or more" : ""} skipped: ${WHYS[run.why] || run.why}` : `skipped: ${WHYS[run.why] || run.why}`;
  return dotted(!short && run.text, run.by_hand && "by hand", what, run.seconds != null && duration(run.seconds), run.late_s > 1 && `${duration(run.late_s)} late`);
}

export default {render: (props) => mount(props, (model, el) => new Schedules(model, el, "Schedules"))};
