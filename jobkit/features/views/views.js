// The saved views of a user in the menu of the table of jobs (menu.py): a name for a search, an order and hidden columns.

class Views {
  constructor(menu) {
    [this.menu, this.table] = [menu, menu.table];
    const n = (this.n = {});
    Object.assign(menu.n.button, {textContent: "Views", title: "Saved views and columns"});
    n.own = h("div");
    n.ready = h("div");
    n.name = h("input", {type: "text", maxlength: 60, placeholder: "Name of this view", "aria-label": "Name of this view", autocomplete: "off"});
    n.save = h("form", {onsubmit: (event) => { event.preventDefault(); this.save(); }}, n.name, h("button", {class: "btn small", text: "Save"}));
    n.problem = h("p", {class: "bad", role: "status"});
    this.els = [n.save, n.problem, n.own, n.ready];
  }

  opened() {
    put(this.n.problem, "");
    ask(this.table.model, "views");
  }

  replied() {
    const {views, ready, may, problem} = parse(this.table.model.get("replied"), {views: [], ready: []}), {n} = this, {menu} = this.menu.n;
    n.own.replaceChildren(...(views.length ? [h("h3", {text: "Saved views"}), ...views.map((view) => this.line(view, may))] : []));
    n.ready.replaceChildren(h("h3", {text: "For everybody"}), ...ready.map((view) => this.line(view, false)));
    n.save.hidden = !may;
    put(n.problem, problem || "");
    if (!menu.contains(menu.getRootNode().activeElement)) menu.querySelector(".view button")?.focus();
  }

  line({name, search = "", order = "", hidden = ""}, may) {
    const {model, bulk} = this.table;
    const go = h("button", {class: "go", onclick: () => { this.menu.el.open = false; bulk.clear(); this.table.box.set(search); ask(model, "view", {search, order, hidden}); }}, h("b", {text: name}), h("span", {class: "mono muted", text: search || "all jobs"}));
    return h("div", {class: "view"}, go, ...(may ? [
      h("button", {class: "btn quiet small", "aria-label": `Rename ${name}`, text: "Rename", onclick: ({target}) => this.rename(target.parentElement, name)}),
      h("button", {class: "btn quiet small", "aria-label": `Delete ${name}`, text: "Delete", onclick: () => ask(model, "delete_view", {name})})] : []));
  }

  rename(line, name) {
    const input = h("input", {type: "text", maxlength: 60, "aria-label": `New name of ${name}`, value: name});
    line.replaceChildren(h("form", {onsubmit: (event) => { event.preventDefault(); ask(this.table.model, "rename_view", {name, to: input.value}); }}, input, h("button", {class: "btn small", text: "Rename"})));
    input.select();
    input.focus();
  }

  save() {
    const {name} = this.n, {model} = this.table, shown = Object.fromEntries(["search", "order", "hidden"].map((key) => [key, model.get(key)]));
    if (name.value.trim()) ask(model, "save_view", {name: name.value, ...shown});
    name.value = "";
  }
}

MENU.push(Views);
