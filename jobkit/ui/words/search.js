// The search box of a page that shows some of the jobs: the text, what is wrong with it, and what can be asked for.

/** The words of a search text, as `grammar.py` reads them: quotes keep spaces. */
const searchWords = (text) => (text || "").match(/(?:"[^"]*(?:"|$)|[^\s"])+/g) || [];

class SearchBox {
  /** `what` is searched; `before` is called before another text is asked for. */
  constructor(model, what, before = () => {}) {
    [this.model, this.before] = [model, before];
    const n = (this.n = {});
    n.input = h("input", {type: "search", class: "search", placeholder: "Search, or state:failed task:train", "aria-label": `Search ${what}`,
      autocomplete: "off", spellcheck: "false", maxlength: 500, "aria-describedby": "jk-search-problem", oninput: () => this.soon(),
      onkeydown: (event) => { if (event.key === "Escape") { n.input.value = ""; this.soon(0); n.input.blur(); } }});
    n.hint = h("button", {class: "btn quiet small ask", title: "What can be searched", "aria-label": "What can be searched", "aria-expanded": "false", text: "?", onclick: () => this.help(n.help.hidden)});
    n.help = h("div", {class: "help", hidden: true, role: "note"}, h("dl", null, model.get("help").flatMap(([example, means]) => [h("dt", {class: "mono", text: example}), h("dd", {text: means})])));
    this.el = h("div", {class: "searchbox"}, icon("search"), n.input, h("kbd", {text: "/"}), n.hint, n.help);
    this.problem = h("div", {class: "problem", id: "jk-search-problem", role: "status", hidden: true});
    model.on("change:search", () => this.show());
    model.on("change:problem", () => this.showProblem());
    this.show();
    this.showProblem();
  }

  close() { clearTimeout(this.timer); }

  /** The text that is searched for now. */
  get text() { return this.model.get("search") || ""; }

  ask(text) {
    this.before();
    this.n.input.value = text;
    ask(this.model, "search", {text});
  }

  soon(wait = 180) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.ask(this.n.input.value), wait);
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

  /** `/` goes to the box, Escape closes its help; whether the key was one of them. */
  key(event) {
    if (event.key === "Escape" && !this.n.help.hidden) this.help(false);
    else if (event.key === "/" && !isTyping(event)) {
      event.preventDefault();
      this.n.input.focus();
      this.n.input.select();
    } else return false;
    return true;
  }
}
