// What is done to many jobs of a table (job_table.py): choosing them, the question with their count, how far it is, taking back.

const LIVE = ["queued", "scheduled", "running", "retrying"];

/** Return whether the job of a row has not ended. */
const isLive = ({face}) => LIVE.includes(face);

const WORDS_OF = {
  cancel: {word: "Cancel", ask: "Cancel", doing: "Cancelling", of: (face) => LIVE.includes(face)},
  retry: {word: "Retry", ask: "Run again", doing: "Submitting", of: (face) => !LIVE.includes(face)},
  delete: {word: "Delete", ask: "Delete", doing: "Deleting", of: (face) => !LIVE.includes(face)},
};

/** Retrying so many asks first: each is a new job. */
const MANY = 20;

class Bulk {
  constructor(table) {
    this.table = table;
    this.model = table.model;
    this.chosen = new Set();
    this.all = false;  // all that match, not only those on the page
    this.last = "";
    this.work = null;
    this.el = h("div", {class: "bulk", hidden: true, role: "toolbar", "aria-label": "Selected jobs"});
  }

  // -- choosing ----------------------------------------------------------------------------------------------------

  /** Return the ids of the jobs on the page. A group cannot be selected. */
  ofPage() { return [...this.table.rows.keys()].filter((id) => !isGroup(id)); }

  choose(id, on, through = false) {
    const known = new Set(this.ofPage()), ids = [...this.table.n.body.children].map((el) => el.dataset.id).filter((each) => known.has(each));
    const from = through ? ids.indexOf(this.last) : -1, to = ids.indexOf(id);
    const span = from >= 0 && to >= 0 ? ids.slice(Math.min(from, to), Math.max(from, to) + 1) : [id];
    for (const each of span) if (on) this.chosen.add(each); else this.chosen.delete(each);
    this.last = id;
    this.all = false;
    this.show();
  }

  choosePage(on) {
    this.chosen = new Set(on ? this.ofPage() : []);
    this.all = false;
    this.show();
  }

  clear() { this.choosePage(false); }

  /** Handle Escape. Return whether there was something to do. */
  escape() {
    if (this.work && ["asking", "undoable"].includes(this.work.state)) { ask(this.model, "stop"); return true; }
    if (!this.chosen.size) return false;
    this.clear();
    return true;
  }

  // -- acting ------------------------------------------------------------------------------------------------------

  begin(what) {
    const {of} = WORDS_OF[what], ids = this.ids(of);
    if (what === "retry" && !this.all && ids.length <= MANY) {
      ask(this.model, "retry", {ids});
      this.clear();
      return;
    }
    ask(this.model, "bulk", this.all ? {what} : {what, ids});
  }

  ids(of) {
    return [...this.chosen].filter((id) => this.table.rows.has(id) && of(this.table.rows.get(id).data.face));
  }

  told() {
    const before = this.work?.state;
    this.work = parse(this.model.get("work"), null);
    clearTimeout(this.timer);
    const state = this.work?.state;
    if (["undoable", "running"].includes(state) && before === "asking") { this.chosen.clear(); this.all = false; }
    if (state === "ended") {
      put(this.table.n.live, this.work.sentence);
      if (this.work.is_ok) this.timer = setTimeout(() => { this.work = null; this.show(); }, 6000);
    }
    this.show();
    if (state === "asking") this.el.querySelector(".danger, .primary")?.focus();
  }

  // -- showing -----------------------------------------------------------------------------------------------------

  show() {
    const table = this.table, n = table.n, may = this.model.get("may_act");
    for (const [id, row] of table.rows) if (row.n.pick.checked !== this.chosen.has(id)) row.n.pick.checked = this.chosen.has(id);
    for (const [id, row] of table.rows) row.el.setAttribute("aria-selected", String(this.chosen.has(id)));
    const jobs = this.ofPage().length, all = jobs > 0 && this.chosen.size >= jobs;
    n.all.checked = all;
    n.all.indeterminate = this.chosen.size > 0 && !all;
    table.root.classList.toggle("readonly", !may);
    table.root.classList.toggle("choosing", this.chosen.size > 0);
    const parts = this.work ? this.working() : this.chosen.size ? this.choosing(all) : null;
    this.el.hidden = !parts;
    const shown = this.el.childNodes, is = (parts || []).filter(Boolean).map((part) => (part instanceof Node ? part : document.createTextNode(part)));
    if (is.length !== shown.length || is.some((part, i) => !part.isEqualNode(shown[i]))) this.el.replaceChildren(...is); // else what has the focus keeps it
  }

  choosing(all) {
    const table = this.table, count = this.all ? table.total : this.chosen.size;
    const some = this.all ? `All ${count == null ? "" : `${number(count)} `}that match are selected` : `${number(count)} selected`;
    const parts = [h("b", {text: some})];
    if (all && !this.all && table.more) parts.push(h("button", {class: "btn small quiet link", text: `Select all ${table.total == null ? "" : `${number(table.total)} `}that match`, onclick: () => { this.all = true; this.show(); }}));
    const button = (what) => {
      const {word, of} = WORDS_OF[what], ids = this.ids(of);
      if (!this.all && !ids.length) return [];
      const asks = what !== "retry" || this.all || ids.length > MANY;
      return [h("button", {class: "btn small", "data-do": what, text: `${word}${this.all ? "" : ` ${number(ids.length)}`}${asks ? "…" : ""}`, onclick: () => this.begin(what)})];
    };
    for (const [to, word, most] of this.model.get("turns")) if (count > 1 && (this.all || count <= most)) parts.push(h("button", {class: "btn small", "data-do": to, text: word, onclick: () => ask(this.model, "turn", {to, ids: this.all ? null : [...this.chosen]})}));
    parts.push(...button("retry"), h("span", {class: "apart"}), ...button("cancel"), ...button("delete"),
      h("span", {class: "spring"}), h("button", {class: "btn small quiet", text: "Clear", onclick: () => this.clear()}));
    return parts;
  }

  working() {
    const {state, action, total, done, until, sentence, is_ok: ok, led} = this.work, words = WORDS_OF[action] || {};
    const jobs = (count) => many(count, "job");
    const stop = (text) => h("button", {class: "btn small", text, onclick: () => ask(this.model, "stop")});
    if (state === "counting") return [h("span", {text: "Counting…"}), h("span", {class: "spring"}), stop("Never mind")];
    if (state === "asking") {
      const kind = action === "retry" ? "primary" : "danger", what = `${words.ask} ${jobs(total)}`, more = led ? `, and ${many(led, "job")} that they have submitted` : "";
      return [h("b", {text: `${what}${more}?`}), h("button", {class: `btn small ${kind}`, text: what, onclick: () => ask(this.model, "go")}), h("span", {class: "apart"}), stop("Keep")];
    }
    if (state === "undoable") {
      const left = Math.max(0, Math.ceil((until - Date.now()) / 1000));
      clearTimeout(this.timer);
      if (left) this.timer = setTimeout(() => this.show(), 500);
      return [h("span", {text: `${words.doing} ${jobs(total)} in ${left} s`}), stop("Undo"), h("span", {class: "spring"})];
    }
    if (state === "running") {
      const fill = h("i", {style: `width:${total ? Math.min(100, (done / total) * 100) : 0}%`});
      return [h("span", {text: `${words.doing} ${number(done)} of ${jobs(total)}`}), h("span", {class: "bar"}, fill), h("span", {class: "spring"}), stop("Stop")];
    }
    return [h("span", {class: ok ? "" : "bad", text: sentence}), h("span", {class: "spring"}), h("button", {class: "btn small quiet", text: "Close", onclick: () => { this.work = null; ask(this.model, "stop"); this.show(); }})];
  }
}
