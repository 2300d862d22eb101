// The launch form (form_model.py): tasks on the left, one task's parameters on the right. Values are checked in Python, by the
// same code that checks them everywhere; here they are only typed. What was typed is never changed or dropped.

class Form {
  constructor(model, el) {
    this.model = model;
    this.fields = new Map();  // every input by the name of its parameter; in a structure by its path: "model.lr"
    this.groups = new Map();  // every structure by its path
    this.build();
    el.append(this.root);
    this.stops = [followTheme(this.root)];
    model.on("change:tasks", () => this.showTasks());
    model.on("change:prefill", () => this.prefill());
    model.on("change:reply", () => this.answer());
    this.showTasks();
    if (!this.tasks.length) ask(model, "hello");
  }

  close() { this.stops.forEach((stop) => stop()); }

  get elsewhere() { return "Run this cell again to get a form that submits."; }

  /** Return whether reloading the page would lose typed values. */
  holds = () => [...this.fields.values()].some((field) => this.isChanged(field));

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
    n.trouble = h("p", {class: "trouble", role: "alert", hidden: true});
    n.call = h("code");
    n.copy = h("button", {class: "btn quiet small", type: "button", title: "Copy the Python call", "aria-label": "Copy the Python call", onclick: () => copyText(n.call.textContent, n.copy)}, icon("copy"));
    n.modes = radios(MODES.filter(([mode]) => mode !== "sweep" || this.model.get("sweeps")), (mode) => this.turn(mode), {"aria-label": "When"});
    n.at = h("input", {type: "datetime-local", class: "input at", step: 60, hidden: true, "aria-label": "Not before", oninput: () => this.changed()});
    n.submit = h("button", {class: "btn primary submit", type: "submit", title: "Ctrl+Enter", text: "Submit"});
    n.form = h("form", {class: "form", novalidate: true, autocomplete: "off", onsubmit: (event) => { event.preventDefault(); this.submit(); },
      onkeydown: (event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); this.submit(); } }},
      h("header", {class: "about"}, n.title, n.doc), n.fields, n.none, n.options, n.trouble,
      h("footer", null, h("div", {class: "when"}, n.modes.el, n.at), h("div", {class: "call mono", title: "The same from Python"}, n.call, n.copy), n.submit));
    n.empty = h("div", {class: "nothing", hidden: true},
      h("p", {class: "big", text: "No tasks yet"}), h("p", {class: "muted", text: "Write a function with @jobkit.task in a module and name the module, for instance:"}),
      h("pre", {class: "mono", text: "JOBKIT_TASKS=mytasks jobkit up"}));
    n.aside = h("aside", null, n.find, n.list);
    this.root = h("section", {class: "jk jk-form", "aria-label": "Submit a task"}, n.aside, n.form, n.empty);
  }

  showTasks() {
    this.tasks = parse(this.model.get("tasks"), []);
    const n = this.n;
    n.empty.hidden = this.tasks.length > 0;
    n.form.hidden = n.aside.hidden = !this.tasks.length;
    n.find.hidden = this.tasks.length < 8;
    this.root.classList.toggle("single", this.tasks.length === 1);
    n.list.replaceChildren(...this.tasks.map((task) => h("button", {class: "task", type: "button", role: "option", "data-name": task.name, onclick: () => this.choose(task.name)},
      h("b", {text: task.title}), h("span", {class: "mono muted", text: task.name}))));
    if (this.tasks.length && !this.tasks.some((task) => task.name === this.task?.name)) this.choose(this.tasks[0].name);
    else this.markTask();
    this.prefill();
  }

  filter() {
    const wanted = this.n.find.value.toLowerCase();
    for (const button of this.n.list.children) button.hidden = !button.textContent.toLowerCase().includes(wanted);
  }

  markTask() {
    for (const button of this.n.list.children) button.setAttribute("aria-selected", String(button.dataset.name === this.task?.name));
  }

  prefill() {
    const wanted = parse(this.model.get("prefill"), null);
    // A form that has just been made may hear of the values before it hears of the tasks; each is filled in once.
    if (!wanted || wanted.n === this.filled || !this.tasks.some((task) => task.name === wanted.task)) return;
    this.filled = wanted.n;
    this.choose(wanted.task, wanted.values || {}, wanted.job || "", wanted.kept || []);
    if (wanted.queue) this.fields.get("option:queue").set(wanted.queue);
    this.changed();
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
      if (isKept) this.keep(this.groups.get(spec.name) || this.fields.get(spec.name), values[spec.name]);
      return el;
    }));
    n.none.hidden = task.params.length > 0;
    const option = (key, label, range, help, placeholder) => this.field({name: `option:${key}`, shown: label, kind: "str", range, help, placeholder, required: false, default: "", option: true});
    n.optionFields.replaceChildren(
      option("queue", "queue", "", "A worker that serves it runs the job.", task.queue || "default"), option("delay", "delay", "seconds", "Wait this long before it may start.", "0"),
      option("tags", "tags", "comma-separated", "To find it again.", ""), option("priority", "priority", "whole number", "Higher first.", "0"));
    n.options.open = false;
    n.trouble.hidden = true;
    this.markTask();
    this.turn("now");
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

  /** In a sweep: whether this field has several values, which then are typed or picked in place of the one. */
  spread(field, isSpread) {
    if (!field.several) return;
    field.isSpread = isSpread;
    field.several.setAttribute("aria-pressed", String(isSpread));
    put(field.several, isSpread ? "one value" : "several");
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

  // -- fields ------------------------------------------------------------------------------------------------------

  field(spec, prefilled) {
    if (spec.kind === "struct" && spec.parts) return this.fieldset(spec, prefilled);
    if (spec.kind === "bool" && spec.nullable) spec = {...spec, kind: "choice", choices: [["yes", true], ["no", false]], isBool: true};
    const id = `f-${spec.name.replace(/\W/g, "-")}`, kind = spec.kind, has = "default" in spec && spec.default !== null;
    const usual = spec.default_text && !has ? "" : has ? spec.default : kind === "bool" ? false : "";
    const field = {spec, initial: usual, restore: () => field.set(field.initial)};
    const touched = () => this.changed();
    const checked = () => this.check(field);
    let input, wide = false;
    const text = (value) => fieldText(spec, value);
    if (kind === "bool") {
      input = h("input", {type: "checkbox", id, class: "check", checked: Boolean(usual), onchange: touched});
      Object.assign(field, {read: () => ({value: input.checked}), get: () => input.checked, set: (value) => { input.checked = Boolean(value); }, control: input});
    } else if (kind === "choice" && spec.choices?.length && spec.choices.length <= 4 && spec.choices.every(([label]) => label.length <= 14)) {
      let value = usual === "" ? null : labelOf(spec, usual);
      const group = radios(spec.choices.map(([label]) => [label, label]), (label, isKey) => { field.set(!isKey && value === label && spec.nullable ? null : label); touched(); checked(); }, {id});
      Object.assign(field, {read: () => ({value}), get: () => value, control: group.el, set: (wanted) => {
        value = wanted == null || wanted === "" ? null : labelOf(spec, wanted);
        group.mark(value);
      }});
      field.initial = value;
      field.set(value);
    } else if (kind === "choice") {
      input = h("select", {id, class: "input", onchange: () => { touched(); checked(); }}, (spec.nullable || usual === "") && h("option", {value: "", text: spec.nullable ? "none" : "choose…"}), (spec.choices || []).map(([label]) => h("option", {value: label, text: label})));
      field.initial = usual === "" ? "" : labelOf(spec, usual);
      input.value = field.initial;
      Object.assign(field, {read: () => (input.value === "" ? {text: ""} : {value: input.value}), get: () => input.value, set: (value) => { input.value = value == null ? "" : labelOf(spec, value); }, control: input});
    } else if (kind === "list" && spec.item?.kind === "choice" && spec.item.choices?.length <= 24) {
      wide = true;
      let chosen = new Set((Array.isArray(usual) ? usual : []).map((value) => labelOf(spec.item, value)));
      field.initial = [...chosen];
      const chips = spec.item.choices.map(([label]) => h("button", {type: "button", class: "pickchip", "aria-pressed": "false", text: label, onclick: () => { if (chosen.has(label)) chosen.delete(label); else chosen.add(label); show(); touched(); checked(); }}));
      const show = () => chips.forEach((chip, i) => chip.setAttribute("aria-pressed", String(chosen.has(spec.item.choices[i][0]))));
      const value = () => spec.item.choices.map(([label]) => label).filter((label) => chosen.has(label));
      Object.assign(field, {read: () => ({value: value()}), get: value, control: h("div", {class: "chips", role: "group", id}, chips), set: (wanted) => { chosen = new Set((wanted || []).map((each) => labelOf(spec.item, each))); show(); }});
      show();
    } else if (kind === "table") {
      wide = true;
      let file = null;
      const name = h("span", {class: "muted", text: "a .csv, .tsv or .json file"});
      const pick = h("input", {type: "file", id, accept: ".csv,.tsv,.json", class: "sr", onchange: async () => {
        const chosen = pick.files[0];
        if (!chosen) return;
        file = {name: chosen.name, text: await chosen.text()};
        put(name, `${chosen.name}, ${bytes(chosen.size)}`);
        touched();
        checked();
      }});
      const drop = h("label", {class: "drop", for: id}, h("span", {class: "btn small", text: "Choose a file"}), name, pick);
      Object.assign(field, {read: () => (file ? {file} : {text: ""}), get: () => file && file.name, control: drop, set: () => { file = null; pick.value = ""; put(name, "a .csv, .tsv or .json file"); }});
      field.initial = null;
    } else {
      const isLong = (value) => typeof value === "string" && (value.includes("\n") || value.length > 80);
      const long = ["dict", "any", "union"].includes(kind) || isJsonList(spec) || (kind === "str" && (isLong(usual) || isLong(prefilled)));
      const props = {id, class: `input${["dict", "any", "union", "path", "list", "uuid", "bytes"].includes(kind) ? " mono" : ""}${["int", "float", "decimal", "duration"].includes(kind) ? " short" : ""}`, oninput: touched, onblur: checked, spellcheck: "false",
        placeholder: spec.placeholder || (spec.nullable ? "none" : spec.default_text || (kind === "dict" ? "{}" : isJsonList(spec) ? "[]" : kind === "list" ? "a, b, c" : kind === "duration" ? "90, 1h or PT1H30M" : kind === "path" ? "/path/to/file" : ""))};
      if (long) {
        wide = true;
        input = h("textarea", {...props, rows: 2});
      } else {
        const type = spec.is_secret ? "password" : MOMENTS[kind] || "text";
        input = h("input", {...props, type, step: ["datetime", "time"].includes(kind) ? 1 : false, inputmode: kind === "int" ? "numeric" : kind === "float" ? "decimal" : false});
      }
      // A browser's field for moments drops what it does not know: zones and fractions of a second. Text keeps them.
      const put_ = (value) => {
        if (MOMENTS[kind]) input.type = MOMENTS[kind];
        input.value = value;
        if (input.value !== value && input.value !== value.replace(/:00$/, "")) Object.assign(input, {type: "text"}).value = value;
        field.slide?.();
      };
      Object.assign(field, {read: () => ({text: input.value}), get: () => input.value, set: (value) => put_(text(value)), restore: () => put_(field.initial), control: input});
      put_(text(usual));
      field.initial = input.value;
      if (["int", "float"].includes(kind) && spec.min != null && spec.max != null && spec.max - spec.min <= 10000 && (kind === "float" || spec.max - spec.min >= 2)) {
        const slider = h("input", {type: "range", class: "slider", min: spec.min, max: spec.max, step: kind === "int" ? 1 : (spec.max - spec.min) / 1000, "aria-label": spec.label || spec.name, tabindex: -1,
          oninput: () => { input.value = kind === "int" ? slider.value : String(Number(Number(slider.value).toPrecision(4))); touched(); }, onchange: checked});
        field.slide = () => { slider.value = Number(input.value); };
        input.addEventListener("input", field.slide);
        field.slide();
        field.control = h("div", {class: "numeric"}, input, slider);
      }
    }
    field.dot = h("button", {type: "button", class: "reset", hidden: true, title: "Back to the default", text: "reset", onclick: () => { this.release(field); field.restore(); this.error(field, ""); this.changed(); }});
    field.several = !spec.option && !spec.isPart && SPREADABLE.includes(kind) && !spec.is_secret && h("button", {type: "button", class: "several", "aria-pressed": "false", title: "Give several values: one job for each combination", text: "several", onclick: () => this.spread(field, !field.isSpread)});
    field.message = h("p", {class: "message", id: `${id}-m`, role: "alert", hidden: true});
    const label = h("label", {class: "label", for: id, text: spec.shown || spec.label || spec.name, title: spec.label && spec.label !== spec.name ? spec.name : false});
    const what = spec.range !== undefined ? spec.range : kindOf(spec), hint = spec.help && h("p", {class: "hint muted", text: spec.help, title: spec.help});
    // Short help stands beside the label, so that ten parameters are seen at once; what is longer stands under its field.
    const isShort = hint && label.textContent.length + spec.help.length + what.length <= SHORT;
    hint?.classList.toggle("beside", isShort);
    const line = h("div", {class: "line"}, kind === "bool" && field.control, label, isShort && hint, spec.required && !has && h("span", {class: "required", text: "required"}), field.dot, field.several, h("span", {class: "spring"}), h("span", {class: "kind muted", text: what}));
    const el = h("div", {class: `field${wide ? " wide" : ""} kind-${kind}`, "data-name": spec.name}, line, kind !== "bool" && field.control, field.message, !isShort && hint);
    (field.control.matches?.("input,select,textarea") ? field.control : field.control.querySelector("input") || field.control).setAttribute("aria-describedby", `${id}-m`);
    field.el = el;
    this.fields.set(spec.name, field);
    if (spec.isBool) {
      const read = field.read;
      field.read = () => { const sent = read(); return "value" in sent ? {value: sent.value === null ? null : sent.value === "yes"} : sent; };
    }
    if (prefilled !== undefined) {
      field.set(prefilled);
      // A value that was filled in and not changed goes back as it came, not as the text that stands for it.
      const came = JSON.stringify(field.get()), read = field.read;
      if (kind !== "table") field.read = () => (JSON.stringify(field.get()) === came ? {value: prefilled} : read());
    }
    return el;
  }

  /** The fields of a structure, behind a rule; a nullable one may be none. */
  fieldset(spec, prefilled) {
    const base = spec.default && typeof spec.default === "object" ? spec.default : null;
    const values = prefilled && typeof prefilled === "object" && !Array.isArray(prefilled) ? prefilled : null;
    const group = {spec, parts: []};
    group.initial = Boolean(spec.nullable && (spec.default === null || (!base && !spec.required)));
    group.isNone = prefilled === undefined ? group.initial : Boolean(spec.nullable && prefilled === null);
    group.control = h("div", {class: "parts fields"}, spec.parts.map((part) => {
      const own = {...part, name: `${spec.name}.${part.name}`, shown: part.label || part.name, isPart: true};
      if (base && part.name in base) Object.assign(own, {default: base[part.name], default_text: ""});
      group.parts.push(own.name);
      return this.field(own, values ? values[part.name] : undefined);
    }));
    group.dot = h("button", {type: "button", class: "reset", hidden: true, title: "Back to the defaults", text: "reset", onclick: () => { this.restore(group); this.changed(); }});
    group.none = spec.nullable && h("input", {type: "checkbox", class: "check", checked: !group.isNone, "aria-label": `give ${spec.name}`, onchange: (event) => { group.isNone = !event.target.checked; this.changed(); }});
    group.message = h("p", {class: "message", role: "alert", hidden: true});
    const label = h("span", {class: "label", text: spec.shown || spec.label || spec.name, title: spec.name}), hint = spec.help && h("span", {class: "hint beside muted", text: spec.help, title: spec.help});
    group.el = h("fieldset", {class: "field wide group", "data-name": spec.name},
      h("legend", {class: "line"}, group.none, label, hint, spec.required && !spec.parts.every((part) => !part.required) && h("span", {class: "required", text: "required"}), group.dot, h("span", {class: "spring"}), h("span", {class: "kind muted", text: spec.type_name || ""})),
      group.control, group.message);
    this.groups.set(spec.name, group);
    return group.el;
  }

  /** Everything of a structure back at its default. */
  restore(group) {
    this.release(group);
    group.isNone = group.initial;
    if (group.none) group.none.checked = !group.isNone;
    this.error(group, "");
    for (const name of group.parts) {
      const field = this.fields.get(name);
      if (!field) this.restore(this.groups.get(name));
      else { field.restore(); this.error(field, ""); }
    }
  }

  /** An argument that stays as it is in the job that the form was filled from, until the user changes it. */
  keep(field, shown) {
    field.isKept = true;
    field.control.hidden = true;
    field.kept = h("p", {class: "kept muted"}, h("span", {text: `as in job ${this.again.slice(0, 8)}: `}), h("code", {text: typeof shown === "string" ? shown : JSON.stringify(shown) ?? ""}),
      h("button", {type: "button", class: "btn quiet small", text: "Change", onclick: () => { this.release(field); this.changed(); (field.control.matches("input,select,textarea") ? field.control : field.control.querySelector("input,button,textarea"))?.focus(); }}));
    field.el.insertBefore(field.kept, field.message);
  }

  release(field) {
    if (!field.isKept) return;
    field.isKept = false;
    field.control.hidden = false;
    field.kept.remove();
  }

  isChanged(field) {
    if (field.isKept) return true;
    if (field.parts) return field.isNone !== field.initial || (!field.isNone && field.parts.some((name) => this.isChanged(this.fields.get(name) || this.groups.get(name))));
    return JSON.stringify(field.get()) !== JSON.stringify(field.initial);
  }

  /** Return the fields to send: changed ones, and those without a default. Of a structure that is sent, every field goes along. */
  collect() {
    const fields = {}, options = {};
    for (const [name, field] of this.fields) if (field.spec.option) options[name.slice(7)] = field.get();
    for (const spec of this.task.params) this.collectOne(spec.name, fields, false);
    if (this.mode === "later" && this.n.at.value) options.at = new Date(this.n.at.value).toISOString();
    return {fields, options};
  }

  collectOne(name, out, whole) {
    const field = this.fields.get(name) || this.groups.get(name), {spec} = field;
    const isChanged = this.isChanged(field), isNeeded = spec.required && !("default" in spec);
    if (field.isKept) out[name] = {kept: true};
    else if (field.isSpread) out[name] = field.axis.read();
    else if (field.parts) {
      if (field.isNone) { if (isChanged || whole || isNeeded) out[name] = {none: true}; }
      else if (isChanged || whole || isNeeded) field.parts.forEach((part) => this.collectOne(part, out, true));
    } else if (isChanged || isNeeded) out[name] = field.read();
    else if (whole && "default" in spec && !spec.default_text) out[name] = {value: spec.default};
  }

  changed() {
    for (const group of this.groups.values()) if (!group.isKept) group.control.hidden = group.isNone;
    for (const field of [...this.fields.values(), ...this.groups.values()]) {
      const changed = this.isChanged(field);
      field.el.classList.toggle("changed", changed);
      field.dot.hidden = !changed || field.spec.option;
    }
    put(this.n.call, this.pythonCall());
    if (!this.busy) this.ready();
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
      if (field.spec.option) options.push(`${name.slice(7)}=${name === "option:tags" ? pythonValue(value.split(",").map((tag) => tag.trim()).filter(Boolean)) : name === "option:queue" ? pythonValue(value) : value}`);
      else values.push(`${name}=${this.mode === "sweep" ? `[${pythonText(field.spec, value)}]` : pythonText(field.spec, value)}`);
    }
    if (this.mode === "later" && this.n.at.value) options.push(`at=datetime(${this.n.at.value.match(/\d+/g).slice(0, 5).map(Number).join(", ")}).astimezone()`);
    if (kept) return `kit.get(${pythonValue(this.again)}).rerun(${values.join(", ")})`;
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

  error(field, sentence) {
    field.message.hidden = !sentence;
    put(field.message, sentence);
    field.el.classList.toggle("wrong", Boolean(sentence));
  }

  submit() {
    if (this.busy) return;
    this.busy = true;
    this.n.submit.disabled = true;
    put(this.n.submit, "Submitting…");
    if (!ask(this.model, this.mode === "sweep" ? "sweep" : "submit", {task: this.task.name, again: this.again, ...this.collect()})) return this.ready();
    clearTimeout(this.busyTimer);
    this.busyTimer = setTimeout(() => this.ready(), 15000);
  }

  ready() {
    clearTimeout(this.busyTimer);
    this.busy = false;
    const count = this.mode === "sweep" ? this.count() : 1, isSweep = this.mode === "sweep";
    this.n.submit.disabled = isSweep && (!this.axes().length || !count);
    put(this.n.submit, isSweep && this.axes().length ? `Submit ${number(count)} ${count === 1 ? "job" : "jobs"}` : "Submit");
    this.n.submit.title = isSweep && !this.axes().length ? "Give at least one field several values" : "Ctrl+Enter";
  }

  answer() {
    const reply = parse(this.model.get("reply"), null);
    if (!reply || reply.task !== this.task?.name) return;
    if (reply.checked) {
      const field = this.fields.get(reply.checked);
      return field && this.error(field, reply.errors[reply.checked] || "");
    }
    this.ready();
    const errors = reply.errors || {};
    let first = null;
    const all = new Map([...this.fields, ...this.groups]);
    for (const [name, field] of all) {
      this.error(field, errors[name] || "");
      if (errors[name] && !first) first = field;
    }
    const rest = Object.entries(errors).filter(([name]) => !all.has(name)).map(([, sentence]) => sentence);
    this.n.trouble.hidden = !rest.length;
    put(this.n.trouble, rest.join("\n"));
    if (first) {
      if (first.spec.option) this.n.options.open = true;
      first.el.scrollIntoView({block: "nearest"});
      (first.control.matches("input,select,textarea") ? first.control : first.control.querySelector("input,button"))?.focus();
    } else if (!rest.length) {
      put(this.n.submit, "Submitted");
      setTimeout(() => this.busy || this.ready(), 1200);
    }
  }
}

/** Characters of label, help and kind that have room in one line of a column. */
const SHORT = 62;

const MODES = [["now", "Now", "Start as soon as possible"], ["later", "Later", "Start at a time"], ["sweep", "Sweep", "One job for each combination of values"]];
const SPREADABLE = ["int", "float", "str", "bool", "choice", "path", "date", "datetime"];

/** A moment as a datetime-local field takes it. */
function localTime(at) {
  const two = (n) => String(n).padStart(2, "0");
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}T${two(at.getHours())}:${two(at.getMinutes())}`;
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
  return {control: h("div", {class: "axis"}, input), values, read: () => ({texts: values()})};
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

/** Kinds that browsers have a field for. */
const MOMENTS = {date: "date", datetime: "datetime-local", time: "time"};

/** A list whose items are typed as JSON. */
const isJsonList = (spec) => spec.kind === "list" && [spec.item, ...(spec.parts || [])].some((item) => ["dict", "struct", "list", "union"].includes(item?.kind));

/** A value as the text of its field, which is read as that value again. */
function fieldText(spec, value) {
  if (value == null) return "";
  if (typeof value === "string") return ["any", "union"].includes(spec.kind) && parse(value, undefined) !== undefined ? JSON.stringify(value) : value;
  if (!Array.isArray(value)) return typeof value === "object" ? JSON.stringify(value) : String(value);
  const isPlain = !isJsonList(spec) && spec.kind === "list" && value.every((item) => typeof item !== "object" && (typeof item !== "string" || (item && item.trim() === item && !item.includes(",") && !item.startsWith("["))));
  return isPlain ? value.join(", ") : JSON.stringify(value);
}

const KIND_WORDS = {time: "time", duration: "duration", uuid: "UUID", decimal: "decimal number", bytes: "base64", int: "whole number", float: "number", bool: "", str: "text", choice: "", path: "path", date: "date", datetime: "date and time", list: "list", dict: "JSON", table: "table", any: "JSON or text"};

function kindOf(spec) {
  const unit = {str: " characters", list: " items"}[spec.kind] || "";
  const range = spec.min == null && spec.max == null ? "" : spec.min == null ? `at most ${number(spec.max)}${unit}` : spec.max == null ? `from ${number(spec.min)}${unit}` : unit && spec.min === spec.max ? `${number(spec.min)}${unit}` : `${number(spec.min)} – ${number(spec.max)}${unit}`;
  const words = (each) => each.type_name || KIND_WORDS[each.kind] || each.kind;
  const word = isJsonList(spec) ? `JSON list${spec.item ? ` of ${words(spec.item)}` : ""}` : spec.kind === "union" ? (spec.parts || []).map(words).join(" or ") : spec.kind === "dict" && spec.item ? `JSON of ${words(spec.item)}` : spec.kind === "list" && spec.item && spec.item.kind !== "choice" ? `${KIND_WORDS[spec.item.kind] || "value"}s, comma-separated`.replace("texts", "texts") : spec.kind === "list" && spec.item ? "any of" : KIND_WORDS[spec.kind] ?? spec.kind;
  return [word, range].filter(Boolean).join(" · ");
}

function labelOf(spec, value) {
  const found = (spec.choices || []).find(([label, each]) => label === value || JSON.stringify(each) === JSON.stringify(value));
  return found ? found[0] : String(value);
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

/** A field's typed or picked value as Python writes it; what does not parse stays as it was typed, quoted. */
function pythonText(spec, value) {
  if (value === "" && spec.nullable) return "None";
  if (typeof value !== "string") return spec.kind === "table" ? `pd.read_csv(${pythonValue(value)})` : pythonValue(value);
  if (spec.kind === "choice") {
    const found = (spec.choices || []).find(([label]) => label === value);
    return pythonValue(found ? found[1] : value);
  }
  if (spec.kind === "table") return `pd.read_csv(${pythonValue(value)})`;
  const isNumber = (text) => /^\s*[-+]?(\d[\d_]*\.?\d*|\.\d+)(e[-+]?\d+)?\s*$/i.test(text);
  if (["int", "float"].includes(spec.kind)) return isNumber(value) ? value.trim() : pythonValue(value);
  if (spec.kind === "list" && !value.trim().startsWith("[")) {
    return `[${value.split(",").map((part) => part.trim()).filter(Boolean).map((part) => (isNumber(part) && ["int", "float"].includes(spec.item?.kind) ? part : pythonValue(part))).join(", ")}]`;
  }
  if (["list", "dict", "any", "union"].includes(spec.kind)) {
    const parsed = parse(value, undefined);
    return parsed === undefined ? pythonValue(value) : pythonValue(parsed);
  }
  return pythonValue(value);
}

export default {render: (props) => mount(props, (model, el) => new Form(model, el))};
