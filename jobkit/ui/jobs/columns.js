// The menu beside the search box of the table of jobs: which columns are shown, and what features add to it.

/** Columns that can be hidden, with their words. */
const HIDEABLE = [["queue", "Queue"], ["owner", "Owner"], ["when", "Submitted"], ["time", "Duration"], ["worker", "Worker"]];

/** Classes of what features add: made with the menu, they have its elements `els`, `opened()`, and `replied()` for replies. */
const MENU = [];

class Columns {
  constructor(table) {
    this.table = table;
    const n = (this.n = {});
    n.button = h("button", {class: "btn quiet small chooser", "aria-haspopup": "dialog", "aria-expanded": "false", text: "Columns", onclick: () => this.open(n.menu.hidden)});
    n.boxes = HIDEABLE.map(([name]) => h("input", {type: "checkbox", "data-name": name, onchange: () => this.choose()}));
    this.parts = MENU.map((Part) => new Part(this));
    n.menu = h("div", {class: "menu", role: "dialog", "aria-label": n.button.textContent, hidden: true, onkeydown: (event) => { if (event.key === "Escape") { event.stopPropagation(); this.open(false); n.button.focus(); } }},
      // What comes late is below what may be clicked meanwhile, which must not move away from under the pointer.
      h("fieldset", null, h("legend", {text: "Columns"}), HIDEABLE.map(([name, word], i) => h("label", {class: `of-${name}`}, n.boxes[i], word))), ...this.parts.flatMap(({els}) => els));
    table.box.n.hint.before(n.button, n.menu);  // in the order in which they are seen
    table.on({hidden: () => this.show(), replied: () => this.parts.forEach((part) => part.replied())});
    table.listen(document, "pointerdown", (event) => { if (!event.composedPath().some((el) => el === n.menu || el === n.button)) this.open(false); });
    this.show();
  }

  open(open) {
    const {menu, button} = this.n;
    if (open === !menu.hidden) return;
    menu.hidden = !open;
    button.setAttribute("aria-expanded", String(open));
    if (open) this.parts.forEach((part) => part.opened());
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
