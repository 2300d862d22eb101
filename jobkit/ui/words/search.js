// The search box of a page that shows some of the jobs: the text, what is wrong with it, and what can be asked for.

/** The words of a search text, as `grammar.py` reads them: quotes keep spaces. */
const searchWords = (text) => (text || "").match(/(?:"[^"]*(?:"|$)|[^\s"])+/g) || [];

/** Milliseconds from a key to the request for suggestions, and to the search. */
const [COMPLETE_MS, SEARCH_MS] = [60, 240];

class SearchBox {
  /** `what` is searched; `before` is called before another text is asked for. */
  constructor(model, what, before = () => {}) {
    [this.model, this.before] = [model, before];
    const n = (this.n = {});
    n.input = h("input", {type: "search", class: "search", placeholder: "Search, or state:failed", "aria-label": `Search ${what}`,
      autocomplete: "off", spellcheck: "false", maxlength: 500, "aria-describedby": "jk-search-problem",
      role: "combobox", "aria-autocomplete": "list", "aria-expanded": "false", "aria-controls": "jk-search-options",
      oninput: () => { this.complete(COMPLETE_MS); this.soon(); }, onkeydown: (event) => this.pressed(event), onblur: () => this.close(true),
      onclick: () => { if (!n.input.value) this.complete(); }});
    n.hint = h("button", {class: "btn quiet small ask", title: "What can be searched", "aria-label": "What can be searched", "aria-expanded": "false", text: "?", onclick: () => this.help(n.help.hidden)});
    n.help = h("div", {class: "help", hidden: true, role: "note"}, h("dl", null, model.get("help").flatMap(([example, means]) => [h("dt", {class: "mono", text: example}), h("dd", {text: means})])));
    n.options = h("ul", {class: "options", id: "jk-search-options", role: "listbox", "aria-label": "Suggestions", hidden: true, onpointerdown: (event) => event.preventDefault()});
    n.heard = h("span", {class: "sr", role: "status"});
    this.el = h("div", {class: "searchbox"}, icon("search"), n.input, h("kbd", {text: "/"}), n.hint, n.help, n.options, n.heard);
    this.problem = h("div", {class: "problem", id: "jk-search-problem", role: "status", hidden: true});
    this.told = {options: []};
    this.at = -1;
    model.on("change:search", () => this.show());
    model.on("change:problem", () => this.showProblem());
    model.on("change:options", () => this.suggest());
    this.show();
    this.showProblem();
    ask(model, "zone", {zone: Intl.DateTimeFormat().resolvedOptions().timeZone || ""});
  }

  stop() { clearTimeout(this.timer); clearTimeout(this.completeTimer); }

  /** The text that is searched for now. */
  get text() { return this.model.get("search") || ""; }

  get isOpen() { return !this.n.options.hidden; }

  /** Show a text that something else searches for. */
  set(text) {
    clearTimeout(this.timer);
    this.close();
    this.n.input.value = text;
  }

  ask(text) {
    clearTimeout(this.timer);
    this.before();
    this.n.input.value = text;
    ask(this.model, "search", {text: text.trim()});
  }

  /** Search in a moment, but not for a word that is half typed. The suggestions for it say whether it is. */
  soon(waits = 5) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      if (this.told.text !== this.n.input.value && waits) this.soon(waits - 1);
      else if (!this.isHalf()) this.ask(this.n.input.value);
    }, SEARCH_MS);
  }

  /** Return whether the caret is behind a begun field, or the begun value of one. */
  isHalf() {
    const {value, selectionStart} = this.n.input, {typed, options} = this.told;
    return /[:,]$/.test(value.slice(0, selectionStart)) || this.isOpen && typed && !options.some(({text}) => text === typed);
  }

  show() {
    const {input} = this.n;
    if (input.value !== this.text && input.getRootNode().activeElement !== input) input.value = this.text;
  }

  showProblem() {
    const text = this.model.get("problem");
    this.problem.hidden = !text;
    put(this.problem, text);
    this.n.input.setAttribute("aria-invalid", String(Boolean(text)));
  }

  help(open) {
    this.n.help.hidden = !open;
    this.n.hint.setAttribute("aria-expanded", String(open));
  }

  // -- completion ----------------------------------------------------------------------------------------------------

  complete(wait = 0) {
    const {input} = this.n;
    clearTimeout(this.completeTimer);
    this.completeTimer = setTimeout(() => ask(this.model, "complete", {text: input.value, at: input.selectionStart}), wait);
  }

  /** Show the suggestions, unless the text has changed since, or the only one is what stands there. */
  suggest() {
    const told = parse(this.model.get("options"), {options: []}), {input, options} = this.n, {text, typed} = told;
    if (text !== input.value || input.getRootNode().activeElement !== input) return;
    this.told = told;
    const isOver = told.options.length === 1 && told.options[0].text === typed;
    options.hidden = !told.options.length || isOver;
    options.classList.toggle("values", Boolean(told.field));
    input.setAttribute("aria-expanded", String(this.isOpen));
    options.replaceChildren(...told.options.map(({text, note}, i) => h("li", {role: "option", id: `jk-search-option-${i}`, "aria-selected": "false", onclick: () => this.take(i), onpointermove: () => this.mark(i)},
      h("span", {class: "mono", text}), h("span", {class: "muted", text: note}))));
    this.mark(-1);
    put(this.n.heard, this.isOpen ? many(told.options.length, "suggestion") : "");
  }

  /** `isLeft`: the box is left, so what stands there is searched for, half typed or not. */
  close(isLeft) {
    clearTimeout(this.completeTimer);
    this.n.options.hidden = true;
    this.n.input.setAttribute("aria-expanded", "false");
    this.mark(-1);
    if (isLeft && this.n.input.value.trim() !== this.text) this.ask(this.n.input.value);
  }

  mark(at) {
    this.at = at;
    [...this.n.options.children].forEach((option, i) => option.setAttribute("aria-selected", String(i === at)));
    this.n.options.children[at]?.scrollIntoView({block: "nearest"});
    if (at >= 0) this.n.input.setAttribute("aria-activedescendant", `jk-search-option-${at}`); else this.n.input.removeAttribute("aria-activedescendant");
  }

  take(i) {
    const {input} = this.n, {text, is_done: isDone} = this.told.options[i], {from, to} = this.told, {value} = input;
    const after = value.slice(to).replace(/^ /, ""), before = `${value.slice(0, from)}${text}${isDone ? " " : ""}`;
    input.value = before + after;
    input.setSelectionRange(before.length, before.length);
    this.close();
    if (isDone) this.ask(input.value); else this.complete();
  }

  pressed(event) {
    const {key} = event, last = this.told.options.length - 1;
    if (key === "ArrowDown" || key === "ArrowUp") {
      if (this.isOpen) this.mark(key === "ArrowDown" ? (this.at < last ? this.at + 1 : 0) : this.at > 0 ? this.at - 1 : last);
      else if (key === "ArrowDown") this.complete();
    } else if ((key === "Enter" || key === "Tab") && this.isOpen && this.at >= 0) this.take(this.at);
    else if (key === "Enter") { this.close(); this.ask(this.n.input.value); return; }
    else if (key === "Escape" && this.isOpen) { event.stopPropagation(); this.close(); }
    else if (key === "Escape") { this.n.input.value = ""; this.ask(""); this.n.input.blur(); return; }
    else return;
    event.preventDefault();
  }

  /** `/` goes to the box, Escape closes its help; whether the key was one of them. */
  key(event) {
    if (event.key === "Escape" && !this.n.help.hidden) this.help(false);
    else if (event.key === "/" && !isTyping(event)) {
      event.preventDefault();
      this.n.input.focus();
      this.n.input.select();
      if (!this.n.input.value) this.complete();
    } else return false;
    return true;
  }
}
