// The fields of a form, by the kinds of a task's parameters: what is typed or picked, as it goes to Python (form_model.py).
// Values are checked there, by the same code that checks them everywhere; here they are only typed. What was typed is never
// changed or dropped.

/** Kinds whose text is checked when the user pauses, since only a number can stand there, and how long a pause is. */
const [NUMERIC, PAUSE_MS] = [["int", "float", "decimal"], 800];

/** Base of the forms. A subclass has `changed()`, called with each change of a field, and `ready()`, after a reply, and may have `check(field)`, called
 *  when one has been typed or picked, and `extra(field)`, a button on its line. */
class Fields {
  fields = new Map();  // every input by the name of its parameter; in a structure by its path: "model.lr"
  groups = new Map();  // every structure by its path
  prefix = "f";  // of the ids of inputs, which are unique in a page

  /** Return the field or the group of a name. */
  of(name) { return this.fields.get(name) || this.groups.get(name); }

  /** Send what was typed. Until the reply is here, at most 15 s, nothing more is sent. */
  send(word, action, asked) {
    this.busy = this.n.submit.disabled = true;
    put(this.n.submit, word);
    clearTimeout(this.busyTimer);
    if (ask(this.model, action, asked)) this.busyTimer = setTimeout(() => this.ready(), 15000); else this.ready();
  }

  check() {}

  extra() { return null; }

  field(spec, prefilled) {
    if (spec.kind === "struct" && spec.parts) return this.fieldset(spec, prefilled);
    if (spec.kind === "bool" && spec.nullable) spec = {...spec, kind: "choice", choices: [["yes", true], ["no", false]], isBool: true};
    const id = `${this.prefix}-${spec.name.replace(/\W/g, "-")}`, kind = spec.kind, has = "default" in spec && spec.default !== null;
    const usual = spec.default_text && !has ? "" : has ? spec.default : kind === "bool" ? false : "";
    const field = {spec, initial: usual, restore: () => field.set(field.initial)};
    const touched = () => this.changed();
    const checked = () => { clearTimeout(field.pause); if (field.el.isConnected) this.check(field); };
    const typed = () => { touched(); clearTimeout(field.pause); if (NUMERIC.includes(kind)) field.pause = setTimeout(checked, PAUSE_MS); };
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
      input = h("select", {id, class: "input", onchange: () => { touched(); checked(); }}, (spec.nullable || usual === "") && h("option", {value: "", text: spec.nullable ? "none" : "select…"}), (spec.choices || []).map(([label]) => h("option", {value: label, text: label})));
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
      const props = {id, class: `input${["dict", "any", "union", "path", "list", "uuid", "bytes"].includes(kind) || spec.is_code ? " mono" : ""}${[...NUMERIC, "duration"].includes(kind) ? " short" : ""}`, oninput: typed, onblur: checked, spellcheck: "false",
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
      const scale = sliderScale(spec);
      if (scale) {
        const slider = h("input", {type: "range", class: "slider", min: 0, max: scale.steps, step: 1, "aria-label": spec.label || spec.name, title: scale.isLog ? "Logarithmic" : false, tabindex: -1,
          oninput: () => { input.value = String(scale.value(Number(slider.value))); slider.setAttribute("aria-valuetext", input.value); touched(); }, onchange: checked});
        field.slide = () => { slider.value = scale.place(Number(input.value)); slider.setAttribute("aria-valuetext", input.value); };
        input.addEventListener("input", field.slide);
        field.slide();
        field.control = h("div", {class: "numeric"}, input, slider);
      }
    }
    field.dot = h("button", {type: "button", class: "reset", hidden: true, title: "Back to the default", text: "reset", onclick: () => { this.release(field); field.restore(); this.error(field, ""); this.changed(); }});
    field.message = h("p", {class: "message", id: `${id}-m`, role: "alert", hidden: true});
    const label = h("label", {class: "label", for: id, text: spec.shown || spec.label || spec.name, title: spec.label && spec.label !== spec.name ? spec.name : false});
    const what = spec.range !== undefined ? spec.range : kindWords(spec), hint = spec.help ? h("p", {class: "hint muted", text: spec.help, title: spec.help}) : null;
    // Short help stands beside the label, so that ten parameters are seen at once; what is longer stands under its field.
    const isShort = hint && label.textContent.length + spec.help.length + what.length <= SHORT;
    hint?.classList.toggle("beside", isShort);
    const line = h("div", {class: "line"}, kind === "bool" && field.control, label, isShort && hint, isRequired(spec) && !has && h("span", {class: "required", text: "required"}), field.dot, this.extra(field), h("span", {class: "spring"}), h("span", {class: "kind muted", text: what}));
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
      h("legend", {class: "line"}, group.none, label, hint, isRequired(spec) && spec.parts.some(isRequired) && h("span", {class: "required", text: "required"}), group.dot, h("span", {class: "spring"}), h("span", {class: "kind muted", text: spec.type_name || ""})),
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
  keep(field, shown, of) {
    field.isKept = true;
    field.control.hidden = true;
    field.kept = h("p", {class: "kept muted"}, h("span", {text: `as in ${of}: `}), h("code", {text: typeof shown === "string" ? shown : JSON.stringify(shown) ?? ""}),
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
    if (field.parts) return field.isNone !== field.initial || (!field.isNone && field.parts.some((name) => this.isChanged(this.of(name))));
    return JSON.stringify(field.get()) !== JSON.stringify(field.initial);
  }

  /** Return the fields of parameters to send: changed ones, and those without a default. Of a structure that is sent, every
   *  field goes along. */
  collect(specs) {
    const out = {};
    for (const {name} of specs) this.collectOne(name, out, false);
    return out;
  }

  collectOne(name, out, whole) {
    const field = this.of(name), {spec} = field;
    const isChanged = this.isChanged(field), isNeeded = spec.required && !("default" in spec);
    if (field.isKept) out[name] = {kept: true};
    else if (field.isSpread) out[name] = field.axis.read();
    else if (field.parts) {
      if (field.isNone) { if (isChanged || whole || isNeeded) out[name] = {none: true}; }
      else if (isChanged || whole || isNeeded) field.parts.forEach((part) => this.collectOne(part, out, true));
    } else if (isChanged || isNeeded) out[name] = field.read();
    else if (whole && "default" in spec && !spec.default_text) out[name] = {value: spec.default};
  }

  /** Return the texts of the options by name, and the values of those that are chosen. */
  options() {
    const text = ({spec, get}) => (spec.choices ? spec.choices.find(([label]) => label === get())?.[1] ?? "" : get());
    return Object.fromEntries([...this.fields.values()].filter(({spec}) => spec.option).map((field) => [field.spec.name.slice(7), text(field)]));
  }

  /** Show which fields differ from their defaults. */
  mark() {
    for (const group of this.groups.values()) if (!group.isKept) group.control.hidden = group.isNone;
    for (const field of [...this.fields.values(), ...this.groups.values()]) {
      const changed = this.isChanged(field);
      if (field.refused && field.refused !== this.held(field)) this.error(field, "");
      field.el.classList.toggle("changed", changed);
      field.dot.hidden = !changed || field.spec.option;
    }
  }

  /** Return the value of a field as a text. */
  held(field) { return JSON.stringify(field.parts ? [field.isNone, field.parts.map((name) => this.held(this.of(name)))] : field.isSpread ? field.axis.values() : field.get()); }

  /** Show a refusal beside its field, "" for none. One of the server stays until the field holds something else. */
  error(field, sentence) {
    if (!sentence && field.refused && field.refused === this.held(field)) return;
    field.refused = "";
    field.message.hidden = !sentence;
    put(field.message, sentence);
    field.el.classList.toggle("wrong", Boolean(sentence));
  }

  /** Show each error beside its field, and those of none in `trouble`; go to the first, if `go`. Return whether there is one. */
  showErrors(errors, trouble, go = true) {
    const all = new Map([...this.fields, ...this.groups]), rest = Object.entries(errors).filter(([name, text]) => text && !all.has(name));
    for (const [name, field] of all) {
      field.refused = "";
      this.error(field, errors[name] || "");
      if (errors[name]) field.refused = this.held(field);
    }
    trouble.hidden = !rest.length;
    put(trouble, rest.map(([, text]) => text).join("\n"));
    const first = go && [...all].find(([name, {el}]) => errors[name] && !el.hidden)?.[1];
    if (first) {
      first.el.closest("details")?.setAttribute("open", "");
      first.el.scrollIntoView({block: "nearest"});
      (first.control.matches("input,select,textarea") ? first.control : first.control.querySelector("input,button"))?.focus();
    }
    return Object.values(errors).some(Boolean);
  }
}

/** JSON leaves `required` out if it is true. */
const isRequired = (spec) => spec.required ?? !spec.option;

/** Characters of label, help and kind that have room in one line of a column. */
const SHORT = 62;

/** Kinds that browsers have a field for. */
const MOMENTS = {date: "date", datetime: "datetime-local", time: "time"};

/** A list whose items are typed as JSON. */
const isJsonList = (spec) => spec.kind === "list" && [spec.item, ...(spec.parts || [])].some((item) => ["dict", "struct", "list", "union"].includes(item?.kind));

/** A value as the text of its field, which is read as that value again. */
function fieldText(spec, value) {
  if (value == null) return "";
  if (spec.kind === "duration") return lengthText(value);
  if (typeof value === "string") return ["any", "union"].includes(spec.kind) && parse(value, undefined) !== undefined ? JSON.stringify(value) : value;
  if (!Array.isArray(value)) return typeof value === "object" ? JSON.stringify(value) : String(value);
  const isPlain = !isJsonList(spec) && spec.kind === "list" && value.every((item) => typeof item !== "object" && (typeof item !== "string" || (item && item.trim() === item && !item.includes(",") && !item.startsWith("["))));
  return isPlain ? value.join(", ") : JSON.stringify(value);
}

/** `1h` for `PT3600S`; what is no length in whole seconds stays as it is. */
function lengthText(value) {
  const [found, days, seconds] = /^P(?:(\d+)D)?(?:T(\d+)S)?$/.exec(value) || [], total = (days || 0) * 86400 + Number(seconds || 0);
  const [unit, size] = [["d", 86400], ["h", 3600], ["m", 60], ["s", 1]].find(([, each]) => total >= each && total % each === 0) || ["s", 1];
  return found ? `${total / size}${unit}` : String(value);
}

const KIND_WORDS = {time: "time", duration: "duration, like 90, 1h or PT1H30M", uuid: "UUID", decimal: "decimal number", bytes: "base64", int: "whole number", float: "number", bool: "", str: "text", choice: "", path: "path", date: "date", datetime: "date and time", list: "list", dict: "JSON", table: "table", any: "JSON or text"};

function kindWords(spec) {
  const unit = {str: " characters", list: " items"}[spec.kind] || "";
  const range = spec.min == null && spec.max == null ? "" : spec.min == null ? `at most ${number(spec.max)}${unit}` : spec.max == null ? `from ${number(spec.min)}${unit}` : unit && spec.min === spec.max ? `${number(spec.min)}${unit}` : `${number(spec.min)} – ${number(spec.max)}${unit}`;
  const words = (each) => each.type_name || KIND_WORDS[each.kind] || each.kind;
  const word = isJsonList(spec) ? `JSON list${spec.item ? ` of ${words(spec.item)}` : ""}` : spec.kind === "union" ? (spec.parts || []).map(words).join(" or ") : spec.kind === "dict" && spec.item ? `JSON of ${words(spec.item)}` : spec.kind === "list" && spec.item && spec.item.kind !== "choice" ? `${KIND_WORDS[spec.item.kind] || "value"}s, comma-separated`.replace("texts", "texts") : spec.kind === "list" && spec.item ? "any of" : KIND_WORDS[spec.kind] ?? spec.kind;
  return dotted(word, range, spec.nullable && !["bool", "choice"].includes(spec.kind) && "or empty");
}

/** Positions of a slider and the values that they stand for: by size if the range spans two decades or more; null for no slider. */
function sliderScale({kind, min, max}) {
  if (!["int", "float"].includes(kind) || min == null || max == null || !(max - min >= (kind === "int" ? 2 : 0)) || min === max) return null;
  const isLog = min > 0 && max / min >= 100;
  if (!isLog && max - min > 10000) return null;
  const steps = isLog ? 400 : kind === "int" ? max - min : 1000, ratio = Math.log(max / min);
  const at = (place) => (isLog ? min * Math.exp((ratio * place) / steps) : min + ((max - min) * place) / steps);
  const round = (value) => Number(value.toPrecision(isLog ? 2 : 4));
  return {isLog, steps,
    value: (place) => (place <= 0 ? min : place >= steps ? max : Math.min(max, Math.max(min, kind === "int" ? Math.round(isLog ? round(at(place)) : at(place)) : round(at(place))))),
    place: (value) => (isLog ? (value > 0 ? (steps * Math.log(value / min)) / ratio : 0) : (steps * (value - min)) / (max - min))};
}

function labelOf(spec, value) {
  const found = (spec.choices || []).find(([label, each]) => label === value || JSON.stringify(each) === JSON.stringify(value));
  return found ? found[0] : String(value);
}
