// Home (home.py): the rows of the table in three sections, what runs, what waits and what has ended, each with a head that says
// what its wide column shows. Rows move only while the user is not reading.

/** The sections, with the word of their search, their states among the counters, and the head of the wide column. */
const SECTIONS = [
  ["Running", "running", ["running"], "Progress"],
  ["Waiting", "waiting", ["queued", "scheduled"], "Start"],
  ["Ended", "ended", ENDS, "Result"],
];

/** Return the place in SECTIONS of a row. */
const sectionOf = ({face}) => (face === "running" ? 0 : isLive({face}) ? 1 : 2);

class Home {
  constructor(table) {
    this.table = table;
    this.order = null;  // ids of the rows; null on other pages
    this.heads = SECTIONS.map(([word, search, , wide]) => {
      const count = h("span", {class: "muted"}), all = h("button", {class: "btn quiet small all", onclick: () => table.box.ask(`state:${search}`)});
      return {count, all, el: h("div", {class: "section", role: "row"}, h("span", {class: "what", role: "cell"}, h("b", {text: word}), " ", count), h("span", {class: "wide", role: "cell", text: wide}), h("span", {class: "rest", role: "cell"}, all))};
    });
  }

  begin(page) {
    this.order = page.home ? page.rows.map(({id}) => id) : null;
    if (!this.order) this.heads.forEach(({el}) => el.remove());
  }

  /** Put rows and heads into their order. Rows that are not in it go. */
  arrange() {
    const {table} = this, {rows, n} = table;
    if (!this.order) return;
    const keep = new Set(this.order), nodes = [], sorted = SECTIONS.map(() => []);
    for (const [id, row] of [...rows]) if (!keep.has(id)) table.drop(id, row);
    for (const id of this.order) if (rows.has(id)) sorted[sectionOf(rows.get(id).data)].push(rows.get(id).el);
    sorted.forEach((some, i) => { if (some.length) nodes.push(this.heads[i].el, ...some); });
    const stay = new Set(nodes);
    for (const {el} of this.heads) if (!stay.has(el)) el.remove();
    keepSelected(n.body, () => nodes.forEach((node, i) => {
      const after = i ? nodes[i - 1].nextSibling : n.body.firstChild;
      if (after !== node) n.body.insertBefore(node, after);
    }));
    table.groups.forEach((each) => each.restore());
    this.count();
  }

  /** Show the numbers of jobs beside the heads. */
  count() {
    SECTIONS.forEach(([, search, states], i) => {
      const {count, all} = this.heads[i], total = states.reduce((sum, state) => sum + (this.table.totals?.[state] || 0), 0);
      put(count, number(total));
      put(all, `All ${search}`);
    });
  }

  /** Return the head of the wide column: on home that of the first section, else of all that is shown. */
  wideHead() {
    const found = SECTIONS.filter((_, i) => [...this.table.rows.values()].some(({data}) => sectionOf(data) === i)).map(([, , , wide]) => wide);
    return (this.order ? found[0] : found.join(" / ")) || "Progress";
  }
}
