// The launch form (form_model.py): tasks on the left, one task's parameters on the right (fields.js).

class Form extends Fields {
  constructor(model, el) {
    super();
    this.model = model;
    this.drafts = pulses.get(model)?.isPage ? new Drafts(model.get("user") || "") : null;  // a cell of a notebook says itself what its form starts from
    this.build();
    el.append(this.root);
    this.stops = [followTheme(this.root)];
    model.on("change:tasks", () => this.showTasks());
    model.on("change:prefill", () => this.prefill());
    model.on("change:reply", () => this.answer());
    this.showTasks();
    if (!this.tasks.length) ask(model, "hello");
  }

  close() {
    this.saveDraft();
    this.stops.forEach((stop) => stop());
  }

  get elsewhere() { return "Run this cell again to get a form that submits."; }

  /** Return whether reloading the page would lose typed values. */
  holds = () => [...this.fields.values()].some((field) => this.isChanged(field)) && !this.saveDraft();

  onPulse() { this.ready(); }

  build() {
    const n = (this.n = {});
    n.find = h("input", {type: "search", class: "input", placeholder: "Find a task", "aria-label": "Find a task", oninput: () => this.filter()});
    n.list = h("div", {class: "list", role: "listbox", "aria-label": "Tasks"});
    n.title = h("h2");
    n.doc = h("p", {class: "doc muted"});
    n.fields = h("div", {class: "fields"});
    n.none = h("p", {class: "muted none", text: "This task takes no arguments.", hidden: true});
    n.options = h("details", {class: "options"}, h("summary", {text: "Options"}), (n.optionFields = h("div", {class: "fields"})));
    n.missing = h("div", {class: "trouble", role: "alert", hidden: true});
    n.trouble = h("p", {class: "trouble", role: "alert", hidden: true});
    n.draft = h("p", {class: "draft muted", hidden: true}, "As you left it. ", h("button", {type: "button", class: "link", text: "Start over", onclick: () => this.startOver()}));
    n.usual = h("span", {class: "usual muted"});
    n.why = h("span", {class: "why", role: "status"});
    n.call = h("code");
    n.copy = h("button", {class: "btn quiet small", type: "button", title: "Copy the Python call", "aria-label": "Copy the Python call", onclick: () => copyText(n.call.textContent, n.copy)}, icon("copy"));
    n.modes = radios(MODES.filter(([mode]) => mode !== "sweep" || this.model.get("sweeps")), (mode) => this.turn(mode), {"aria-label": "When"});
    n.at = h("input", {type: "datetime-local", class: "input at", step: 60, hidden: true, "aria-label": "Not before", oninput: () => this.changed()});
    n.submit = h("button", {class: "btn primary submit", type: "submit", title: "Ctrl+Enter", text: "Submit"});
    n.form = h("form", {class: "form", novalidate: true, autocomplete: "off", onsubmit: (event) => { event.preventDefault(); this.submit(); },
      onkeydown: (event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); this.submit(); } }},
      h("header", {class: "about"}, n.missing, n.title, n.doc, n.draft), n.fields, n.none, n.options, n.trouble,
      h("footer", null, h("div", {class: "when"}, n.modes.el, n.at), h("div", {class: "call mono", title: "The same from Python"}, n.call, n.copy), h("div", {class: "go"}, n.why, n.usual, n.submit)));
    n.empty = h("div", {class: "nothing", hidden: true},
      h("p", {class: "big", text: "No tasks yet"}), h("p", {class: "muted", text: "Write a function with @jobkit.task in a module and name the module, for instance:"}),
      h("pre", {class: "mono", text: "JOBKIT_TASKS=mytasks jobkit up"}));
    n.aside = h("aside", null, n.find, n.list);
    this.root = h("section", {class: "jk jk-form jk-fields", "aria-label": "Submit a task"}, n.aside, n.form, n.empty);
  }

  showTasks() {
    this.tasks = parse(this.model.get("tasks"), []);
    const n = this.n;
    n.empty.hidden = this.tasks.length > 0;
    n.form.hidden = n.aside.hidden = !this.tasks.length;
    n.find.hidden = this.tasks.length < 8;
    this.root.classList.toggle("single", this.tasks.length === 1 && !this.isLacking);
    n.list.replaceChildren(...this.tasks.map((task) => h("button", {class: "task", type: "button", role: "option", "data-name": task.name, title: `${task.title}\n${task.name}`, onclick: () => { this.saveDraft(); this.choose(task.name); }},
      h("b", {text: task.title}), h("span", {class: "mono muted", text: task.name}))));
    const chosen = this.tasks.find((task) => task.name === this.task?.name), [drafted] = (this.drafts?.newest() || "").split("@");
    if (chosen) this.task = chosen;
    else if (this.tasks.length) this.choose((this.tasks.find(({name}) => name === drafted) || this.tasks[0]).name);
    this.markTask();
    if (this.task) this.ready();
    this.prefill();
  }

  filter() {
    const wanted = this.n.find.value.toLowerCase();
    for (const button of this.n.list.children) button.hidden = !button.textContent.toLowerCase().includes(wanted);
  }

  markTask() {
    for (const button of this.n.list.children) button.setAttribute("aria-selected", String(button.dataset.name === this.task?.name && !this.isLacking));
    this.reveal();
  }

  /** Scroll the list of tasks, and nothing around it, to the chosen one: down, or on a phone to the right. */
  reveal() {
    const {aside, list} = this.n, chosen = list.querySelector('[aria-selected="true"]')?.getBoundingClientRect();
    if (!chosen) return;
    const [down, right] = [aside, list].map((el) => el.getBoundingClientRect());
    aside.scrollTop += Math.max(0, chosen.bottom - down.bottom + 8) + Math.min(0, chosen.top - down.top - 8);
    list.scrollLeft += Math.max(0, chosen.right - right.right) + Math.min(0, chosen.left - right.left);
  }

  prefill() {
    const wanted = parse(this.model.get("prefill"), null);
    // A form that has just been made may hear of the values before it hears of the tasks; each is filled in once.
    if (!wanted || wanted.n === this.filled || !this.tasks.length) return;
    const isKnown = this.tasks.some((task) => task.name === wanted.task);
    if (!isKnown || wanted.is_other) {  // it may still come; the user is told once
      if (this.missed === wanted.n) return;
      this.missed = wanted.n;
      this.showLack(`${isKnown ? `Job ${wanted.job.slice(0, 8)} ran other code than the task ${wanted.task} that is offered here.` : `Task ${wanted.task} is not known here: no worker and no module offers it.`} ${wanted.job ? "Run its job again from Python:" : "Choose another one."}`, wanted.job && rerunCall(wanted));
      return;
    }
    this.filled = wanted.n;
    this.choose(wanted.task, wanted.values || {}, wanted.job || "", wanted.kept || []);
    if (wanted.queue) this.fields.get("option:queue").set(wanted.queue);
    if (wanted.job) this.restoreDraft();
    this.changed();
    this.isDirty = false;
  }

  /** Show a sentence, with code to copy below it, in place of the form of a task, or with "" the form again. */
  showLack(text, code = "") {
    this.n.missing.replaceChildren(text, ...(code ? [codeBlock(code)] : []));
    this.n.missing.hidden = !text;
    this.isLacking = Boolean(text);
    this.root.classList.toggle("lacking", this.isLacking);
    this.root.classList.toggle("single", this.tasks.length === 1 && !this.isLacking);
    this.markTask();
  }

  /** Shows a task's form. `job`: the job that `values` are of; its arguments in `kept` are not known here as a whole. */
  choose(name, values = {}, job = "", kept = []) {
    const task = this.tasks.find((each) => each.name === name), n = this.n;
    if (!task) return;
    this.task = task;
    this.again = job;
    this.fields.clear();
    this.groups.clear();
    put(n.title, task.title);
    put(n.doc, task.doc || "");
    n.doc.hidden = !task.doc;
    n.fields.replaceChildren(...task.params.map((spec) => {
      const isKept = kept.includes(spec.name), el = this.field(spec, isKept ? undefined : values[spec.name]);
      if (isKept) this.keep(this.of(spec.name), values[spec.name], `job ${job.slice(0, 8)}`);
      return el;
    }));
    n.none.hidden = task.params.length > 0;
    n.optionFields.replaceChildren(...task.options.map(([key, typed, help, usual]) => this.field({name: `option:${key}`, shown: key.replace("_", " "), kind: "str", range: dotted(typed, `else ${usual}`), help, placeholder: usual, required: false, default: "", option: true})));
    n.options.open = false;
    n.trouble.hidden = true;
    n.draft.hidden = true;
    this.showLack("");
    this.turn("now");
    if (!job && !Object.keys(values).length) this.restoreDraft();
    this.isDirty = false;
  }

  // -- drafts ------------------------------------------------------------------------------------------------------

  get draftName() { return this.again ? `${this.task.name}@${this.again}` : this.task.name; }

  /** Keep what is typed. Return whether nothing of it would be lost. */
  saveDraft() {
    clearTimeout(this.draftTimer);
    if (!this.drafts || !this.task) return false;
    if (!this.isDirty) return true;
    const fields = {}, changed = [...this.fields].filter(([, field]) => this.isChanged(field) && !field.isKept);
    for (const [name, field] of changed) if (!field.spec.is_secret && field.spec.kind !== "table" && !mayBeSecret(field.get())) fields[name] = field.get();
    for (const [name, group] of this.groups) if (group.none && group.isNone !== group.initial) fields[name] = {none: group.isNone};
    const isWhole = changed.every(([name]) => name in fields), isEmpty = !Object.keys(fields).length;
    return this.drafts.keep(this.draftName, isEmpty ? null : {fields, ...(this.mode === "later" && {when: this.n.at.value})}) && isWhole;
  }

  /** Show what was typed before, if it is of this form. */
  restoreDraft() {
    const draft = this.drafts?.of(this.draftName), n = this.n;
    n.draft.hidden = !draft;
    if (!draft) return;
    for (const [name, value] of Object.entries(draft.fields || {})) {
      const group = this.groups.get(name), field = this.fields.get(name);
      if (group?.none) { group.isNone = Boolean(value?.none); group.none.checked = !group.isNone; }
      if (!field) continue;
      if (field.isKept) this.release(field);
      field.set(value);
      if (field.spec.option && this.isChanged(field)) n.options.open = true;
    }
    if (draft.when) { n.at.value = draft.when; this.turn("later"); }
    this.changed();
  }

  startOver() {
    this.drafts.keep(this.draftName, null);
    const {again} = this;
    this.filled = null;
    if (again) this.prefill(); else this.choose(this.task.name);
  }

  /** When, and how often: "now", "later" (not before a time) or "sweep" (once for each combination of several values). */
  turn(mode) {
    const n = this.n;
    this.mode = mode;
    n.modes.mark(mode);
    n.at.hidden = mode !== "later";
    if (mode === "later" && !n.at.value) n.at.value = localTime(new Date(Date.now() + 3600000));
    n.form.classList.toggle("sweeping", mode === "sweep");
    for (const field of this.fields.values()) this.spread(field, false);
    this.changed();
  }

  /** The button that gives a field several values, in a sweep. */
  extra(field) {
    const {spec} = field;
    if (spec.option || spec.isPart || spec.is_secret || !SPREADABLE.includes(spec.kind)) return null;
    return (field.several = h("button", {type: "button", class: "several", title: "Give several values: one job for each combination", text: "Sweep this", onclick: () => this.spread(field, !field.isSpread)}));
  }

  /** In a sweep: whether this field has several values, which then are typed or picked in place of the one. */
  spread(field, isSpread) {
    if (!field.several) return;
    field.isSpread = isSpread;
    put(field.several, isSpread ? "One value" : "Sweep this");
    field.control.hidden = isSpread;
    if (isSpread && !field.axis) field.el.insertBefore((field.axis = axisOf(field, () => this.changed())).control, field.message);
    if (field.axis) field.axis.control.hidden = !isSpread;
    this.error(field, "");
    if (isSpread) field.axis.control.querySelector("input,button")?.focus();
    this.changed();
  }

  axes() { return [...this.fields.values()].filter((field) => field.isSpread); }

  /** Return the number of jobs of a sweep. */
  count() { return this.axes().reduce((product, field) => product * field.axis.values().length, 1); }

  // -- what is asked for -------------------------------------------------------------------------------------------

  changed() {
    this.mark();
    put(this.n.call, this.pythonCall());
    if (!this.busy) this.ready();
    clearTimeout(this.draftTimer);
    this.isDirty = true;
    if (this.drafts) this.draftTimer = setTimeout(() => this.saveDraft(), 300);
  }

  pythonCall() {
    const values = [], options = [];
    const kept = [...this.fields.values(), ...this.groups.values()].some((field) => field.isKept);
    for (const [name, group] of this.groups) {
      if (!name.includes(".") && !group.isKept && this.isChanged(group)) values.push(`${name}=${this.mode === "sweep" ? `[${this.pythonGroup(group)}]` : this.pythonGroup(group)}`);
    }
    for (const [name, field] of this.fields) {
      if (field.spec.isPart || field.isKept) continue;
      if (field.isSpread) values.push(`${name}=[${field.axis.values().map((value) => pythonText(field.spec, value)).join(", ")}]`);
      if (field.isSpread || !this.isChanged(field)) continue;
      const value = field.get();
      if (field.spec.option) options.push(`${name.slice(7)}=${name === "option:tags" ? pythonValue(value.split(",").map((tag) => tag.trim()).filter(Boolean)) : isNumberText(value) ? value.trim() : pythonValue(value)}`);
      else values.push(`${name}=${this.mode === "sweep" ? `[${pythonText(field.spec, value)}]` : pythonText(field.spec, value)}`);
    }
    if (this.mode === "later" && this.n.at.value) options.push(`at=datetime(${this.n.at.value.match(/\d+/g).slice(0, 5).map(Number).join(", ")}).astimezone()`);
    if (kept) return `jobkit.connect().get(${pythonValue(this.again)}).rerun(${values.join(", ")})`;
    return `${this.task.name}${options.length ? `.options(${options.join(", ")})` : ""}.${this.mode === "sweep" ? "sweep" : "submit"}(${values.join(", ")})`;
  }

  /** A structure as Python makes it, with those of its fields that differ from its own defaults. */
  pythonGroup(group) {
    if (group.isNone) return "None";
    const parts = group.spec.parts.map((part) => [part, `${group.spec.name}.${part.name}`]).flatMap(([part, path]) => {
      const inner = this.groups.get(path), field = this.fields.get(path);
      if (inner) return this.isChanged(inner) || part.required ? [`${part.name}=${this.pythonGroup(inner)}`] : [];
      const isOwn = !this.isChanged(field) && JSON.stringify(field.spec.default) === JSON.stringify(part.default);
      return isOwn && !part.required ? [] : [`${part.name}=${pythonText(field.spec, field.get())}`];
    });
    return `${group.spec.type_name || "dict"}(${parts.join(", ")})`;
  }

  check(field) {
    if (field.spec.option || !this.isChanged(field)) return this.error(field, "");
    ask(this.model, "check", {task: this.task.name, name: field.spec.name, field: field.read()});
  }

  submit() {
    if (this.busy || this.isLacking) return;
    const options = this.options();
    if (this.mode === "later" && this.n.at.value) options.at = new Date(this.n.at.value).toISOString();
    this.send("Submitting…", this.mode === "sweep" ? "sweep" : "submit", {task: this.task.name, again: this.again, fields: this.collect(this.task.params), options});
  }

  ready() {
    clearTimeout(this.busyTimer);
    this.busy = false;
    const n = this.n, isSweep = this.mode === "sweep", count = isSweep ? this.count() : 1, usual = this.task?.usual_s;
    const empty = isSweep && this.axes().find((field) => !field.axis.values().length);
    const why = isSweep && !this.axes().length ? "Press “Sweep this” beside a field to give it several values" : empty ? `${empty.spec.label || empty.spec.name} needs at least one value` : this.mode === "later" && !n.at.value ? "Choose when it may start" : "";
    n.submit.disabled = Boolean(why);
    put(n.why, why);
    put(n.usual, !why && usual ? `usually ${duration(usual)}${count > 1 ? " each" : ""}` : "");
    n.usual.title = "By the last runs of this task";
    put(n.submit, isSweep && this.axes().length ? `Submit ${many(count, "job")}` : "Submit");
    n.submit.title = why || "Ctrl+Enter";
  }

  answer() {
    const reply = parse(this.model.get("reply"), null);
    if (!reply || reply.task !== this.task?.name) return;
    if (reply.checked) {
      const field = this.fields.get(reply.checked);
      return field && this.error(field, reply.errors[reply.checked] || "");
    }
    this.ready();
    if (this.showErrors(reply.errors, this.n.trouble)) return;
    this.drafts?.keep(this.draftName, null);
    this.n.draft.hidden = true;
    this.isDirty = false;
    put(this.n.submit, "Submitted");
    setTimeout(() => this.busy || this.ready(), 1200);
  }
}

const MODES = [["now", "Now", "Start as soon as possible"], ["later", "Later", "Start at a time"], ["sweep", "Sweep", "One job for each combination of values"]];
const SPREADABLE = ["int", "float", "str", "bool", "choice", "path", "date", "datetime"];

/** Return the Python call that runs a job again whose task has no form. */
function rerunCall({job, values = {}}) {
  return `jobkit.connect().get(${pythonValue(job)}).rerun(${Object.keys(values).slice(0, 4).map((name) => `${name}=...`).join(", ")})`;
}

/** A moment as a datetime-local field takes it. */
function localTime(at) {
  return `${at.getFullYear()}-${pad(at.getMonth() + 1)}-${pad(at.getDate())}T${pad(at.getHours())}:${pad(at.getMinutes())}`;
}

/** Return the control in which several values of a field are typed ("1, 2, 5" or "1..5", "0..1 by 0.25") or picked. */
function axisOf(field, touched) {
  const {spec} = field, choices = spec.kind === "bool" ? [["False", false], ["True", true]] : spec.kind === "choice" ? spec.choices || [] : null;
  if (choices) {
    const chosen = new Set(choices.map(([label]) => label));
    const chips = choices.map(([label]) => h("button", {type: "button", class: "pickchip", "aria-pressed": "true", text: label, onclick: (event) => { if (chosen.has(label)) chosen.delete(label); else chosen.add(label); event.target.setAttribute("aria-pressed", String(chosen.has(label))); touched(); }}));
    const values = () => choices.filter(([label]) => chosen.has(label)).map(([label, value]) => (spec.kind === "bool" ? value : label));
    return {control: h("div", {class: "chips axis", role: "group", "aria-label": `values of ${spec.name}`}, chips), values, read: () => ({values: values()})};
  }
  const isNumber = ["int", "float"].includes(spec.kind), first = String(field.get() ?? "");
  const input = h("input", {class: "input mono", type: "text", spellcheck: "false", value: first ? `${first}, ` : "", placeholder: isNumber ? "1, 2, 5 or 1..5 or 0..1 by 0.25" : "a, b, c", "aria-label": `values of ${spec.name}, comma-separated`, oninput: touched});
  input.value = first ? `${first}, ` : "";
  const values = () => input.value.split(",").map((part) => part.trim()).filter(Boolean).flatMap((part) => (isNumber ? spreadOf(part, spec.kind) : [part]));
  return {control: h("div", {class: "axis"}, input, isNumber && h("p", {class: "hint muted", text: input.placeholder})), values, read: () => ({texts: values()})};
}

/** "1..5" and "0..1 by 0.25" as their values; anything else is one value as it was typed. */
function spreadOf(part, kind) {
  const found = part.match(/^(-?[\d.e_]*\d)\s*\.\.\s*(-?[\d.e_]*\d)(?:\s+by\s+([\d.e]+))?$/i);
  if (!found) return [part];
  const [from, to, step] = [found[1], found[2], found[3] || "1"].map((text) => Number(text.replaceAll("_", "")));
  const count = Math.floor((to - from) / step + 1e-9) + 1;
  if (![from, to, step].every(Number.isFinite) || !(step > 0) || count < 1 || count > 100000 || (kind === "int" && ![from, step].every(Number.isInteger))) return [part];
  return Array.from({length: count}, (_, i) => String(Number((from + i * step).toPrecision(12))));
}

/** A value as Python writes it. */
function pythonValue(value) {
  if (value === null || value === undefined) return "None";
  if (value === true || value === false) return value ? "True" : "False";
  if (typeof value === "number") return String(value);
  if (Array.isArray(value)) return `[${value.map(pythonValue).join(", ")}]`;
  if (typeof value === "object") return `{${Object.entries(value).map(([key, each]) => `${pythonValue(key)}: ${pythonValue(each)}`).join(", ")}}`;
  return JSON.stringify(value);
}

const isNumberText = (text) => /^\s*[-+]?(\d[\d_]*\.?\d*|\.\d+)(e[-+]?\d+)?\s*$/i.test(text);

/** A field's typed or picked value as Python writes it; what does not parse stays as it was typed, quoted. */
function pythonText(spec, value) {
  if (value === "" && spec.nullable) return "None";
  if (typeof value !== "string") return spec.kind === "table" ? `pd.read_csv(${pythonValue(value)})` : pythonValue(value);
  if (spec.kind === "choice") {
    const found = (spec.choices || []).find(([label]) => label === value);
    return pythonValue(found ? found[1] : value);
  }
  if (spec.kind === "table") return `pd.read_csv(${pythonValue(value)})`;
  if (["int", "float"].includes(spec.kind)) return isNumberText(value) ? value.trim() : pythonValue(value);
  if (spec.kind === "list" && !value.trim().startsWith("[")) {
    return `[${value.split(",").map((part) => part.trim()).filter(Boolean).map((part) => (isNumberText(part) && ["int", "float"].includes(spec.item?.kind) ? part : pythonValue(part))).join(", ")}]`;
  }
  if (["list", "dict", "any", "union"].includes(spec.kind)) {
    const parsed = parse(value, undefined);
    return parsed === undefined ? pythonValue(value) : pythonValue(parsed);
  }
  return pythonValue(value);
}

export default {render: (props) => mount(props, (model, el) => new Form(model, el))};
