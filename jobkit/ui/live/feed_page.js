// What the pages of workers, schedules, failures and the audit log share (component.py): the picture, a notice, an empty
// state and tables. Rows are made once and changed in place, so that focus and an open question stay.

/** Sections that features add to the page of workers, by name: each has `el` and `show(rows)`, and is made with the page. */
const SECTIONS = {};

class FeedPage extends View {
  /** A subclass has `build()`, which returns the page's parts, and `show(data)`; it may have `tick()` and `key(event)`. */
  constructor(model, el, name) {
    super(model);
    this.rows = new Map();
    const {n} = this;
    n.said = h("span", {class: "spring"});
    n.undo = h("button", {class: "btn small", text: "Undo", onclick: () => this.act("reopen_group", this.told.undo)});
    n.notice = h("div", {class: "notice", role: "status", hidden: true}, icon("warn"), n.said, n.undo,
      h("button", {class: "btn quiet small", "aria-label": "Close", onclick: () => { n.notice.hidden = true; }}, icon("close")));
    n.empty = h("div", {class: "nothing", hidden: true});
    this.root = h("section", {class: `jk jk-feed jk-${name.toLowerCase()}`, "aria-label": name, onkeydown: (event) => this.key(event)}, n.notice, this.build(), n.empty);
    this.appear(el);
    this.stops.push(() => clearTimeout(this.fading));
    this.on({picture: () => this.load(), actions: () => this.load(), notice: () => this.showNotice()});
    this.load();
    ask(model, "hello");
  }

  key() {}

  /** Update the texts that change with the time alone. */
  tick() {
    for (const el of this.root.querySelectorAll("[data-at]")) put(el, ago(this.since(el.dataset.at)));
  }

  load() {
    this.data = parse(this.model.get("picture"), null);
    if (!this.data) return;
    this.skew = Date.parse(this.data.now) - Date.now();
    this.readAt = this.now();
    this.show(this.data);
    this.tick();
  }

  may(action) { return this.model.get("actions").includes(action); }

  act(action, id, more) { this.n.notice.hidden = true; ask(this.model, action, {id, ...more}); }

  showNotice() {
    const told = (this.told = parse(this.model.get("notice"), {})), n = this.n;
    n.notice.hidden = !told.text;
    n.notice.dataset.level = told.level;
    put(n.said, told.text || "");
    n.undo.hidden = !told.undo;
    clearTimeout(this.fading);
    if (told.level === "info") this.fading = setTimeout(() => { n.notice.hidden = true; }, 8000);
  }

  /** Show a headline, a sentence and code to copy if there are no rows. */
  showEmpty(isEmpty, big, small, ...more) {
    this.n.empty.hidden = !isEmpty;
    if (!isEmpty || !isNew(this.n.empty, [big, small, ...more])) return;
    this.n.empty.replaceChildren(h("p", {class: "big", text: big}), h("p", {class: "muted", text: small}), ...more.map((code) => codeBlock(code)));
  }

  /** See `keyed` in common.js. */
  keyed(...list) { return keyed(this.rows, ...list); }

  /** A button with a question behind it: `text` opens it, `yes` does it. `redraw` shows the row again. */
  question(row, text, title, yes, does, redraw) {
    const say = (asking) => { row.asking = asking; redraw(); };
    return row.asking
      ? [h("button", {class: "btn small", text: "Keep", onclick: () => say(false)}), h("span", {class: "gap"}), h("button", {class: "btn small danger", text: yes, onclick: () => { say(false); does(); }})]
      : [h("button", {class: "btn small quiet acts", text, title, onclick: () => say(true)})];
  }

  /** A link to a job. */
  link(id, text = id.slice(0, 8), kind = "mono") { return h("button", {class: `link ${kind}`, text, title: `Open job ${id}`, onclick: () => ask(this.model, "open", {id})}); }
}

/** A table: `columns` as `[head, class, cell]`, where `cell(row)` gives what stands in it; the class "head" names the row. */
class FeedTable {
  constructor(columns) {
    this.columns = columns;
    this.body = h("tbody");
    this.table = h("table", null, h("thead", null, h("tr", null, columns.map(([head, kind]) => h("th", {scope: "col", class: kind.replace("head", "")}, head)))), this.body);
    this.el = h("div", {class: "scroll"}, this.table);
  }

  /** Shows the rows if they have changed, or `more` that the cells show; the button with the focus keeps it. `look(row)`
   *  is a row's class. */
  show(rows, more = "", look = () => "") {
    if (!isNew(this.body, [rows, more])) return;
    const focus = this.body.getRootNode().activeElement, kept = this.body.contains(focus) ? focus.dataset.id : null;
    this.body.replaceChildren(...rows.map((row) => h("tr", {class: look(row)}, this.columns.map(([, kind, cell]) => (kind.includes("head") ? h("th", {scope: "row", class: kind}, cell(row)) : h("td", {class: kind}, cell(row)))))));
    if (kept != null) this.body.querySelector(`button[data-id="${CSS.escape(kept)}"]`)?.focus();
  }
}
