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
    this.asked = 0;
    n.sum = h("p", {class: "sum", role: "status", text: "Looking for schedules…"});
    n.add = h("button", {class: "btn", text: "New schedule", hidden: !this.may("pause_schedule"), onclick: () => this.edit(null)});
    n.form = h("div", {class: "formbox", hidden: true});
    n.list = h("div", {class: "list", role: "list", "aria-label": "Schedules", hidden: true});
    this.on("reply", () => this.answer());
    this.on("tasks", () => this.showTasks());
    return [h("div", {class: "top"}, n.sum, h("span", {class: "spring"}), n.add), n.form, n.list];
  }

  close() {
    super.close();
    clearTimeout(this.timer);
  }

  // -- rows --------------------------------------------------------------------------------------------------------

  show({schedules}) {
    const n = this.n, count = schedules.length, paused = schedules.filter((one) => one.state === "paused").length;
    for (const row of this.keyed(n.list, schedules, "name", (one) => this.row(one))) this.fill(row);
    put(n.sum, count ? [`${number(count)} schedule${count > 1 ? "s" : ""}`, paused && `${number(paused)} paused`].filter(Boolean).join(" · ") : "");
    n.list.hidden = !count;
    this.showNone();
  }

  showNone() {
    this.showEmpty(this.data && !this.data.schedules.length && this.n.form.hidden, "No schedules", "Run a task every morning, every five minutes, or once tonight:",
      'kit = jobkit.connect()\nkit.schedule(report, {"day": "today"}, cron="0 6 * * *", tz="Europe/Berlin")\nkit.schedules()');
  }

  row({name}) {
    const n = {task: h("span", {class: "mono muted task"}), sentence: h("span", {class: "sentence"}), cron: h("span", {class: "mono muted"}), next: h("b", {class: "next"}), exact: h("span", {class: "muted exact"}),
      bars: h("span", {class: "bars", role: "list", "aria-label": "Last runs"}), act: h("span", {class: "act"}), more: h("div", {class: "more", hidden: true})}, row = {n};
    n.name = h("button", {class: "name", "aria-expanded": "false", text: name, onclick: () => { row.open = !row.open; this.showMore(row); }});
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
      return run.job_id ? h("button", {...props, onclick: () => ask(this.model, "open", {id: run.job_id})}) : h("span", props);
    });
    n.bars.replaceChildren(...Array.from({length: RUN_BARS - bars.length}, () => h("i", {class: "run empty", "aria-hidden": "true"})), ...bars);
  }

  showAct({n, item: {name, state}}) {
    const may = this.may("pause_schedule"), on = state !== "paused", ended = state === "ended";
    if (!isNew(n.act, [may, state])) return;
    n.act.replaceChildren(...(may ? [
      h("button", {class: "switch", role: "switch", "aria-checked": String(on && !ended), disabled: ended, "aria-label": `${name} fires`, title: ended ? "No runs left" : on ? "Pause" : "Resume", onclick: () => this.act(on ? "pause_schedule" : "resume_schedule", name)}, h("i")),
      h("button", {class: "btn small", text: "Run now", title: "Run it once now; its next times do not change", onclick: (event) => { event.target.disabled = true; setTimeout(() => { event.target.disabled = false; }, 1500); this.act("run_schedule", name); }})] : []));
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
      put(n.exact, next && one.state !== "ended" ? `${next.text} ${one.tz}` : "");
      n.exact.title = next ? exact(next.at) : "";
    }
  }

  // -- the form ----------------------------------------------------------------------------------------------------

  /** Open the form of a new schedule, or of the existing schedule `one`. */
  edit(one) {
    const f = (this.form = {one, fields: new Map(), kind: one ? (one.cron ? "cron" : one.every ? "every" : "at") : "cron"});
    const zone = Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC";
    const text = (key, label, value, hint, more) => this.field(f, key, label, h("input", {class: `input${["cron", "name", "tz"].includes(key) ? " mono" : ""}`, type: "text", value: value ?? "", spellcheck: "false", autocomplete: "off", ...more}), hint);
    const pick = (key, label, value) => this.field(f, key, label, h("select", {class: "input"}, Object.entries(RULES[key]).map(([name, words]) => h("option", {value: name, text: words, selected: name === value}))));
    f.kinds = radios([["cron", "Cron line"], ["every", "Interval"], ["at", "Once"]], (kind) => { f.kind = kind; this.showKind(f); this.typed(); }, {"aria-label": "When"});
    f.task = one ? null : h("select", {class: "input", onchange: () => { this.showParams(f); this.typed(); }});
    f.params = h("div", {class: "params"});
    f.trouble = h("p", {class: "message", role: "alert", hidden: true});
    f.preview = h("div", {class: "preview", "aria-live": "polite"});
    f.save = h("button", {class: "btn primary", type: "button", text: one ? "Save" : "Schedule", onclick: () => this.save()});
    const form = h("form", {class: "edit", "aria-label": one ? `Edit ${one.name}` : "New schedule", onsubmit: (event) => { event.preventDefault(); this.save(); }, oninput: () => this.typed(), onkeydown: (event) => { if (event.key === "Escape") this.leave(); }},
      h("h2", {text: one ? `Edit ${one.name}` : "New schedule"}),
      h("div", {class: "sides"},
        h("div", {class: "fields"},
          f.task && this.field(f, "task", "Task", f.task), !one && text("name", "Name", "", "A new schedule with an existing name replaces it.", {placeholder: "from task and arguments"}),
          h("div", {class: "field wide"}, h("span", {class: "label", text: "When"}), f.kinds.el),
          text("cron", "Cron line", one ? one.cron : "", "minute hour day month weekday, or @daily, @hourly, @weekly", {placeholder: "0 6 * * MON-FRI"}),
          text("every", "Seconds between two runs", one && one.every ? String(one.every) : "", "", {inputmode: "decimal", placeholder: "300"}),
          this.field(f, "at", "At", h("input", {class: "input", type: "datetime-local", step: 1, value: one ? one.at : ""})),
          text("tz", "Time zone", one ? one.tz : zone, "", {placeholder: "UTC"}),
          f.params,
          h("details", {class: "rules"}, h("summary", {text: "Rules and end"}),
            pick("missed", "Times that were missed (no worker)", one ? one.missed : "once"), text("missed_limit", "Maximum number of missed times to run", one ? String(one.missed_limit) : "100", "", {inputmode: "numeric"}), pick("overlap", "If the previous run has not ended", one ? one.overlap : "allow"),
            this.field(f, "until", "No run after", h("input", {class: "input", type: "datetime-local", step: 1, value: one ? one.until : ""})), text("count", "Maximum number of runs", one && one.count ? String(one.count) : "", "", {inputmode: "numeric", placeholder: "no limit"}))),
        h("aside", {class: "side"}, h("h3", {text: "Next five times"}), f.preview)),
      f.trouble, h("div", {class: "foot"}, f.save, h("button", {class: "btn", type: "button", text: "Cancel", onclick: () => this.leave()})));
    this.n.form.replaceChildren(form);
    this.n.form.hidden = false;
    this.n.empty.hidden = true;
    this.showKind(f);
    this.showTasks();
    ask(this.model, "tasks");
    this.typed(true);
    (f.task || f.fields.get(f.kind).input).focus();
    form.scrollIntoView({block: "nearest"});
  }

  field(f, key, label, input, hint) {
    const id = `s-${key.replace(/\W/g, "-")}`, message = h("p", {class: "message", id: `${id}-m`, role: "alert", hidden: true});
    input.id = id;
    input.setAttribute("aria-describedby", `${id}-m`);
    const el = h("div", {class: "field", "data-key": key}, h("label", {class: "label", for: id, text: label}), input, message, hint && h("p", {class: "hint muted", text: hint}));
    f.fields.set(key, {input, el, message});
    return el;
  }

  showKind(f) {
    f.kinds.mark(f.kind);
    for (const kind of ["cron", "every", "at"]) f.fields.get(kind).el.hidden = kind !== f.kind;
    f.fields.get("tz").el.hidden = f.kind === "every";
  }

  showTasks() {
    const f = this.form, tasks = parse(this.model.get("tasks"), []);
    if (!f) return;
    f.tasks = new Map(tasks.map((task) => [task.name, task]));
    if (f.task) {
      const chosen = f.task.value;
      f.task.replaceChildren(h("option", {value: "", text: "choose…"}), ...tasks.map((task) => h("option", {value: task.name, text: task.title === task.name ? task.name : `${task.name}: ${task.title}`})));
      f.task.value = f.tasks.has(chosen) ? chosen : "";
    }
    this.showParams(f);
  }

  /** Show a field for each argument. An untouched field keeps the default, or the value of the schedule. */
  showParams(f) {
    const name = f.one ? f.one.task : f.task.value, task = f.tasks?.get(name);
    if (f.shown === name && f.had === Boolean(task)) return;
    f.shown = name;
    f.had = Boolean(task);
    for (const key of [...f.fields.keys()]) if (key.startsWith("param:")) f.fields.delete(key);
    f.params.replaceChildren(...(task ? task.params : []).map((spec) => {
      const old = f.one && spec.name in f.one.params ? f.one.params[spec.name] : undefined, usual = old === undefined ? ("default" in spec ? spec.default : undefined) : old;
      const shown = usual == null ? "" : typeof usual === "object" ? JSON.stringify(usual) : String(usual), choices = spec.kind === "bool" ? [["true"], ["false"]] : spec.kind === "choice" ? spec.choices || [] : null;
      const input = choices ? h("select", {class: "input"}, h("option", {value: "", text: spec.required ? "choose…" : "default"}), choices.map(([label]) => h("option", {value: label, text: label, selected: String(label).toLowerCase() === shown.toLowerCase()}))) : h("input", {class: "input mono", type: spec.is_secret ? "password" : "text", value: shown, spellcheck: "false", placeholder: spec.default_text || (spec.required ? "required" : "default")});
      input.dataset.initial = input.value;
      return this.field(f, `param:${spec.name}`, spec.label || spec.name, input, spec.help);
    }), ...(f.one && !task && Object.keys(f.one.params).length ? [h("p", {class: "hint muted", text: "Change its arguments where the function is defined: kit.schedule(...) with the same name."})] : []));
  }

  values() {
    const f = this.form, given = {}, fields = {};
    let changed = !f.one;
    for (const [key, {input}] of f.fields) {
      if (key.startsWith("param:")) {
        if (input.value !== input.dataset.initial) changed = true;
        if (f.one ? input.value !== "" : input.value !== input.dataset.initial) fields[key.slice(6)] = {text: input.value};
      } else if (!["task", "name"].includes(key)) given[key] = ["cron", "every", "at"].includes(key) && key !== f.kind ? "" : input.value;
    }
    return {task: f.one ? f.one.task : f.task.value, name: f.one ? f.one.name : f.fields.get("name").input.value, is_new: !f.one, given, ...(changed && {fields})};
  }

  /** Ask for the next times a moment after the last key. */
  typed(now) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.form && ask(this.model, "preview", {...this.values(), id: ++this.asked}), now ? 0 : 250);
  }

  save() {
    clearTimeout(this.timer);
    this.form.saving = true;
    this.form.save.disabled = true;
    for (const {message} of this.form.fields.values()) message.dataset.on = "1";
    ask(this.model, "save", this.values());
  }

  leave() {
    const name = this.form?.one?.name;
    this.form = null;
    this.n.form.hidden = true;
    this.n.form.replaceChildren();
    this.showNone();
    if (name) this.rows.get(name)?.n.name.focus();
    else this.n.add.focus();
  }

  answer() {
    const f = this.form, reply = parse(this.model.get("reply"), null);
    if (!f || !reply) return;
    if (reply.doing === "save") {
      f.saving = false;
      f.save.disabled = false;
      if (reply.saved) return this.leave();
    } else if (f.saving) return;
    const errors = {...reply.errors}, saved = reply.doing === "save";
    let first = null;
    for (const [key, field] of f.fields) {
      const sentence = errors[key] || "", touched = saved || field.message.dataset.on || field.input.value !== "";
      delete errors[key];
      field.message.hidden = !(sentence && touched);
      put(field.message, sentence);
      field.el.classList.toggle("wrong", Boolean(sentence && touched));
      if (sentence && saved && !field.el.hidden) first ||= field;
    }
    const rest = Object.values(errors).filter(Boolean);
    f.trouble.hidden = !(saved && rest.length);
    put(f.trouble, rest.join("\n"));
    if (first) {
      first.el.closest("details")?.setAttribute("open", "");
      first.input.focus();
    }
    f.preview.replaceChildren(...(reply.sentence ? [h("p", {class: "sentence", text: reply.sentence}), timesOf(reply.next)] : [h("p", {class: "muted", text: "Appear here while you type."})]));
    this.tick();
  }
}

/** Times, each with how far away it is. */
function timesOf(times, zone = "") { return h("ol", {class: "times"}, times.map(({at, text}) => h("li", null, h("b", {"data-at": at}), h("span", {class: "muted", text: `${text} ${zone}`.trim()})))); }

function faceOf(run) { return run.job_id ? run.state || "cancelled" : "cancelled"; }

/** `3 Nov 03:00 · Done · 4.2 s · 12 s late`. */
function runText(run, short) {
  const what = run.job_id ? WORDS[run.state] || "no longer kept" : run.count > 1 ? `${number(run.count)}${run.count >= 1000 ? " or more" : ""} skipped: ${WHYS[run.why] || run.why}` : `skipped: ${WHYS[run.why] || run.why}`;
  return [!short && run.text, run.by_hand && "by hand", what, run.seconds != null && duration(run.seconds), run.late_s > 1 && `${duration(run.late_s)} late`].filter(Boolean).join(" · ");
}

export default {render: (props) => mount(props, (model, el) => new Schedules(model, el, "Schedules"))};
