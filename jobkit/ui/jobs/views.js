// The menu of saved views beside the search box (saved_views.py): a name for a search, an order and hidden columns; and which
// columns are shown.

/** Columns that can be hidden, with their words. */
const HIDEABLE = [["queue", "Queue"], ["owner", "Owner"], ["when", "Submitted"], ["time", "Duration"], ["worker", "Worker"]];

class Views {
  constructor(table) {
    const {model} = (this.table = table), n = (this.n = {});
    n.button = h("button", {class: "btn quiet small views", "aria-haspopup": "dialog", "aria-expanded": "false", title: "Saved views and columns", text: "Views", onclick: () => this.open(n.menu.hidden)});
    n.own = h("div");
    n.ready = h("div");
    n.name = h("input", {type: "text", maxlength: 60, placeholder: "Name of this view", "aria-label": "Name of this view", autocomplete: "off"});
    n.save = h("form", {onsubmit: (event) => { event.preventDefault(); this.save(); }}, n.name, h("button", {class: "btn small", text: "Save"}));
    n.problem = h("p", {class: "bad", role: "status"});
    n.columns = HIDEABLE.map(([name, word]) => h("label", {class: `of-${name}`}, h("input", {type: "checkbox", "data-name": name, onchange: () => this.choose()}), word));
    n.menu = h("div", {class: "menu", role: "dialog", "aria-label": "Saved views", hidden: true, onkeydown: (event) => { if (event.key === "Escape") { event.stopPropagation(); this.open(false); n.button.focus(); } }},
      // What comes late is below what may be clicked meanwhile, which must not move away from under the pointer.
      h("fieldset", null, h("legend", {text: "Columns"}), n.columns), n.save, n.problem, n.own, n.ready);
    table.box.n.hint.before(n.button, n.menu);  // in the order in which they are seen
    table.on({views: () => this.told(), hidden: () => this.showColumns()});
    table.listen(document, "pointerdown", (event) => { if (!event.composedPath().some((el) => el === n.menu || el === n.button)) this.open(false); });
    this.showColumns();
  }

  open(open) {
    const {menu, button, problem} = this.n;
    if (open === !menu.hidden) return;
    menu.hidden = !open;
    button.setAttribute("aria-expanded", String(open));
    put(problem, "");
    if (open) ask(this.table.model, "views");
  }

  told() {
    const {views, ready, may, problem} = parse(this.table.model.get("views"), {views: [], ready: []}), {n} = this;
    n.own.replaceChildren(...(views.length ? [h("h3", {text: "Saved views"}), ...views.map((view) => this.line(view, may))] : []));
    n.ready.replaceChildren(h("h3", {text: "For everybody"}), ...ready.map((view) => this.line(view, false)));
    n.save.hidden = !may;
    put(n.problem, problem || "");
    if (!n.menu.contains(n.menu.getRootNode().activeElement)) n.menu.querySelector(".view button")?.focus();
  }

  line([name, search, order, hidden], may) {
    const {model, bulk} = this.table;
    const go = h("button", {class: "go", onclick: () => { this.open(false); bulk.clear(); this.table.box.set(search); ask(model, "view", {search, order, hidden}); }}, h("b", {text: name}), h("span", {class: "mono muted", text: search || "all jobs"}));
    const line = h("div", {class: "view"}, go, ...(may ? [
      h("button", {class: "btn quiet small", "aria-label": `Rename ${name}`, text: "Rename", onclick: () => this.rename(line, name)}),
      h("button", {class: "btn quiet small", "aria-label": `Delete ${name}`, text: "Delete", onclick: () => ask(model, "delete_view", {name})})] : []));
    return line;
  }

  rename(line, name) {
    const input = h("input", {type: "text", maxlength: 60, "aria-label": `New name of ${name}`, value: name});
    line.replaceChildren(h("form", {onsubmit: (event) => { event.preventDefault(); ask(this.table.model, "rename_view", {name, to: input.value}); }}, input, h("button", {class: "btn small", text: "Rename"})));
    input.select();
    input.focus();
  }

  save() {
    const {name} = this.n;
    if (name.value.trim()) ask(this.table.model, "save_view", {name: name.value});
    name.value = "";
  }

  choose() {
    const hidden = this.boxes().filter((box) => !box.checked).map((box) => box.dataset.name).join(",");
    ask(this.table.model, "hide", {hidden});
  }

  boxes() { return this.n.columns.map((label) => label.firstChild); }

  showColumns() {
    const hidden = (this.table.model.get("hidden") || "").split(",");
    for (const box of this.boxes()) {
      box.checked = !hidden.includes(box.dataset.name);
      this.table.root?.classList.toggle(`no-${box.dataset.name}`, !box.checked);
    }
  }
}
