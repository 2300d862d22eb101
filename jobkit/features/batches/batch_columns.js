// Columns of a batch's table that a user has chosen, and the mark of the best row: views of this browser, kept by task.

const HIDDEN = "jobkit-columns", HIDDEN_TASKS = 50;

const columnKey = ([name, kind]) => `${kind} ${name}`;

class BatchColumns {
  /** `card`: has `book`, `job` and `columns()`. */
  constructor(card) {
    this.card = card;
    this.best = undefined;  // [name, "lowest" or "highest"]; null for none; undefined as the model says
    this.list = h("div", {class: "menu", role: "group", "aria-label": "Columns"});
    this.menu = card.popup(h("details", {class: "columns"}, h("summary", {class: "btn quiet small", text: "Columns"}), this.list));
    this.pick = h("select", {class: "pick", "aria-label": "Mark the best", onchange: () => { this.best = parse(this.pick.value, null); card.sorted(); }});
    this.pickBox = h("label", {class: "muted", hidden: true}, "Best ", this.pick);
  }

  get task() { return this.card.job?.task || ""; }

  hidden() { return new Set(parse(stored(HIDDEN), {})[this.task] || []); }

  /** Places of the columns that are shown. */
  shown() {
    const hidden = this.hidden();
    return this.card.book.columns.flatMap((column, c) => (column[1] === "id" || !hidden.has(columnKey(column)) ? [c] : []));
  }

  show() {
    const {book, numeric} = this.card, hidden = this.hidden(), able = book.columns.filter(([, kind], c) => (kind === "value" || kind === "duration") && numeric[c]).map(([name]) => name), now = this.marked();
    if (isNew(this.list, [book.columns, [...hidden]])) {
      this.list.replaceChildren(...book.columns.filter(([, kind]) => kind !== "id").map((column) => h("label", null,
        h("input", {type: "checkbox", class: "check", checked: !hidden.has(columnKey(column)), onchange: (event) => this.choose(columnKey(column), event.target.checked)}), column[1] === "note" && !book.isList ? "message" : column[0])));
    }
    this.pickBox.hidden = !able.length;
    if (!isNew(this.pick, [able, now])) return;
    const options = able.flatMap((name) => ["highest", "lowest"].map((direction) => [name, direction]));
    this.pick.replaceChildren(h("option", {value: "null", text: "not marked"}), ...options.map((each) => h("option", {value: JSON.stringify(each), text: `${each[1]} ${each[0]}`})));
    this.pick.value = JSON.stringify(now);
  }

  choose(key, isShown) {
    const all = parse(stored(HIDDEN), {}), hidden = this.hidden();
    if (isShown) hidden.delete(key); else hidden.add(key);
    delete all[this.task];
    store(HIDDEN, JSON.stringify(Object.fromEntries([...Object.entries(all).slice(-HIDDEN_TASKS + 1), [this.task, [...hidden]]])));
    this.card.columns();
  }

  /** Return the column and direction of the mark, or null. */
  marked() { return this.best === undefined ? this.card.job?.better || null : this.best; }

  /** Find the best value: `[place of its column, value]`; null for none, and for rows that are all alike. */
  find() {
    const wanted = this.marked(), {columns, rows} = this.card.book, c = wanted ? columns.findIndex(([name, kind]) => name === wanted[0] && kind !== "arg") : -1;
    const values = c < 0 ? [] : rows.filter(([, face]) => !UNSUCCESSFUL.includes(face)).map((row) => row[2][c]).filter(Number.isFinite);
    const best = values.reduce((a, b) => (wanted[1] === "lowest" ? Math.min(a, b) : Math.max(a, b)), wanted?.[1] === "lowest" ? Infinity : -Infinity);
    return values.length > 1 && values.some((value) => value !== best) ? [c, best] : null;
  }
}
