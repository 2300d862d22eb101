// Rows of batches in the table of jobs (rows.py): a bar of their jobs by state, and below it, when open, the first of
// these jobs.

/** Milliseconds between two reads of the jobs below an open row. */
const INSIDE_MS = 1000;

class BatchRows {
  constructor(table) {
    this.table = table;
    this.open = new Map();  // id of the row -> {el, asked}
  }

  /** Show what a row of jobs has not. */
  fill(row) {
    const {n, el, data} = row;
    el.classList.add("batch");
    n.pick.style.visibility = "hidden";
    n.pick.disabled = true;
    n.act.hidden = true;
    if (!n.more) {
      n.more = h("button", {class: "btn quiet small more", "aria-expanded": "false", "aria-label": "Show its jobs", text: "▸", onclick: (event) => { event.stopPropagation(); this.toggle(row); }});
      n.name.prepend(n.more);
    }
    n.bar.hidden = false;
    n.bar.className = "bar parts";
    n.bar.replaceChildren(...data.batch.parts.map(([face, share]) => h("i", {"data-face": face, style: `width:${100 * share}%`})));
    n.note.className = "note muted";
    this.ask(data.id);
  }

  toggle({el, n, data}) {
    const opens = !this.open.has(data.id);
    n.more.setAttribute("aria-expanded", String(opens));
    put(n.more, opens ? "▾" : "▸");
    if (!opens) return this.close(data.id);
    const inside = {el: h("div", {class: "inside", role: "row"}, h("div", {role: "cell"}, h("span", {class: "muted", text: "Reading its jobs…"})))};
    this.open.set(data.id, inside);
    el.after(inside.el);
    this.ask(data.id);
  }

  close(id) {
    this.open.get(id)?.el.remove();
    this.open.delete(id);
  }

  /** Put the jobs of open rows back below them. */
  restore() {
    for (const [id, {el}] of this.open) this.table.rows.get(id)?.el.after(el);
  }

  /** Read the jobs below an open row, again if that was a while ago. */
  ask(id) {
    const inside = this.open.get(id);
    if (!inside || inside.timer) return;
    ask(this.table.model, "expand", {id: id.slice(6)});
    inside.timer = setTimeout(() => { inside.timer = null; if (inside.stale) { inside.stale = false; this.ask(id); } }, INSIDE_MS);
  }

  told() {
    const told = parse(this.table.model.get("inside"), null), inside = told && this.open.get(`batch ${told.id}`);
    if (!inside) return;
    const left = this.table.rows.get(`batch ${told.id}`).data.batch.size - told.rows.length;
    inside.el.firstChild.replaceChildren(...told.rows.map((data) => h("button", {class: "job", "data-face": data.face, title: data.note || data.message || false, onclick: () => this.table.open(data.id)},
      icon(data.face), h("span", {class: "mono", text: data.args || data.id.slice(0, 8)}), h("span", {class: "muted", text: data.note || data.message || WORDS[data.face] || data.face}))),
    ...(left > 0 ? [h("button", {class: "btn quiet small", text: `All ${many(left + told.rows.length, "job")}`, onclick: () => this.table.open(`batch ${told.id}`)})] : []));
  }
}

GROUPS.push(BatchRows);
