// Who did what (audit.py): one line an act, newest first.

const ACTS = {done: ["succeeded", "Done"], partly: ["retrying", "In part"], failed: ["failed", "Failed"], refused: ["cancelled", "Refused"]};
const WAYS = {page: "on a page", http: "over HTTP", cli: "at the command line"};

class Audit {
  constructor(model, el) {
    this.model = model;
    const n = (this.n = {});
    n.rows = h("tbody");
    n.table = h("table", null, h("thead", null, h("tr", null, ["When", "Who", "What", "Came of it"].map((word) => h("th", {scope: "col", text: word})))), n.rows);
    n.empty = h("p", {class: "nothing muted", text: "Nobody has done anything yet.", hidden: true});
    n.first = h("button", {class: "btn small", text: "Newest", hidden: true, onclick: () => ask(model, "first")});
    n.older = h("button", {class: "btn small", text: "Older", hidden: true, onclick: () => ask(model, "older", {before: this.more})});
    this.root = h("section", {class: "jk jk-audit", "aria-label": "Audit"}, h("p", {class: "sum muted", text: "Who did what on pages, over HTTP and at the command line. The last 10,000 entries are kept, at most 2,000 of one person."}),
      h("div", {class: "scroll"}, n.table), n.empty, h("div", {class: "foot"}, n.first, n.older));
    el.append(this.root);
    this.stops = [followTheme(this.root), everySecond(() => this.tick(), this.root)];
    model.on("change:picture", () => this.show());
    this.show();
    ask(model, "hello");
  }

  close() { this.stops.forEach((stop) => stop()); }

  show() {
    const data = parse(this.model.get("picture"), null), n = this.n;
    if (!data) return;
    this.skew = Date.parse(data.now) - Date.now();
    this.more = data.more;
    n.older.hidden = !data.more;
    n.first.hidden = data.first;
    n.empty.hidden = Boolean(data.rows.length);
    n.table.hidden = !data.rows.length;
    n.rows.replaceChildren(...data.rows.map((row) => this.line(row)));
    this.tick();
  }

  line(row) {
    const [face, word] = ACTS[row.outcome] || ["queued", row.outcome], words = row.action.replaceAll("_", " ");
    const rest = row.count - row.targets.length, many = row.count !== 1;
    const targets = row.targets.slice(0, many ? 3 : 1).map((target) => row.on === "job"
      ? h("button", {class: "link mono", text: target.slice(0, 8), title: target, onclick: () => ask(this.model, "open", {id: target})})
      : h("span", {class: "mono", text: target}));
    const more = many ? row.count - targets.length : 0;
    return h("tr", {"data-outcome": row.outcome},
      h("td", {class: "when muted", title: exact(row.at), "data-at": row.at}),
      h("td", null, h("b", {text: row.who || "somebody"}), h("span", {class: "muted small way", text: ` ${WAYS[row.via] || row.via}${row.role ? `, as ${row.role}` : ""}`})),
      h("td", null, h("span", {text: words}), " ", h("span", {class: "muted", text: many ? `${number(row.count)} ${row.on}s` : words.endsWith(row.on) ? "" : row.on}), " ", targets.flatMap((target) => [target, " "]), more > 0 && rest >= 0 && h("span", {class: "muted", text: `and ${number(more)} more`})),
      h("td", {class: "note"}, h("span", {class: "chip small", "data-face": face}, icon(face), word), row.times > 1 && h("span", {class: "muted", title: `since ${exact(row.since)}`, text: `${number(row.times)} times${row.note && row.outcome !== "done" ? ": " : ""}`}), row.note && row.outcome !== "done" && h("span", {class: "muted", text: row.note})));
  }

  tick() {
    for (const cell of this.n.rows.querySelectorAll(".when")) put(cell, ago((Date.now() + (this.skew || 0) - Date.parse(cell.dataset.at)) / 1000));
  }
}

export default {render: (props) => mount(props, (model, el) => new Audit(model, el))};
