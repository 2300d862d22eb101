// The menu beside the search box of the table of jobs: which columns are shown, and what features add to it.

/** Columns that can be hidden, with their words. */
const HIDEABLE = [["queue", "Queue"], ["owner", "Owner"], ["when", "Submitted"], ["time", "Duration"], ["worker", "Worker"]];

/** Classes of what features add: made with the menu, they have its elements `els`, `opened()`, and `replied()` for replies. */
const MENU = [];

class Columns {
  constructor(table) {
    this.table = table;
    const n = (this.n = {});
    n.button = h("summary", {class: "btn quiet small", title: "Columns", text: "View"});
    n.boxes = HIDEABLE.map(([name]) => h("input", {type: "checkbox", "data-name": name, onchange: () => this.choose()}));
    this.parts = MENU.map((Part) => new Part(this));
    // What comes late is below what may be clicked meanwhile, which must not move away from under the pointer.
    n.menu = h("div", {class: "menu", role: "group", "aria-label": n.button.textContent},
      h("fieldset", null, h("legend", {text: "Columns"}), HIDEABLE.map(([name, word], i) => h("label", {class: `of-${name}`}, n.boxes[i], word))), ...this.parts.flatMap(({els}) => els));
    this.el = table.popup(h("details", {class: "chooser", ontoggle: () => this.el.open && this.parts.forEach((part) => part.opened())}, n.button, n.menu));
    table.box.n.hint.before(this.el);  // in the order in which they are seen
    table.on({hidden: () => this.show(), replied: () => this.parts.forEach((part) => part.replied())});
    this.show();
  }

  choose() { ask(this.table.model, "view", {hidden: this.n.boxes.filter((box) => !box.checked).map((box) => box.dataset.name).join(",")}); }

  show() {
    const hidden = (this.table.model.get("hidden") || "").split(",");
    for (const box of this.n.boxes) {
      box.checked = !hidden.includes(box.dataset.name);
      this.table.root?.classList.toggle(`no-${box.dataset.name}`, !box.checked);
    }
  }
}
