// The legend of the timeline: tasks by their number of attempts in sight, under the titles that stand on the bars. A click
// shows one task alone.

/** Tasks that are named: on a wide page, on a narrow one. The others are behind one button. */
const [NAMED, NAMED_NARROW] = [8, 4];

class Legend {
  constructor(head) {
    Object.assign(this, {head, isOpen: false, el: h("ul", {class: "legend", "aria-label": "Tasks, most frequent first"})});
  }

  show(seen) {
    const {head} = this, counts = new Map();
    for (const {task} of seen) counts.set(task, (counts.get(task) || 0) + 1);
    const tasks = [...counts].sort(([one, a], [two, b]) => b - a || (one < two ? -1 : 1));
    const most = head.isNarrow ? NAMED_NARROW : NAMED, named = this.isOpen || tasks.length <= most + 1 ? tasks : tasks.slice(0, most), others = tasks.slice(named.length);
    this.el.hidden = !tasks.length;
    if (!isNew(this.el, [named, others, this.isOpen, head.box.text, named.map(([task]) => head.titleOf(task))])) return;
    const sum = others.reduce((total, [, count]) => total + count, 0), asked = taskWord(head.box.text);
    const entry = ([task, count]) => h("li", null, h("button", {title: asked === task ? "Show all tasks" : `Show ${task} alone`, "aria-pressed": String(asked === task), onclick: () => this.ask(asked === task ? "" : task)},
      this.swatch(task), h("span", {text: head.titleOf(task)}), h("b", {text: number(count)})));
    const sign = (kind, text) => h("li", {class: "sign"}, h("i", {class: kind}), text);
    this.el.replaceChildren(...named.map(entry),
      ...(others.length || this.isOpen ? [h("li", null, h("button", {class: "others", "aria-expanded": String(this.isOpen), onclick: () => this.open()}, h("span", {text: this.isOpen ? "Fewer" : many(others.length, "other")}), !this.isOpen && h("b", {text: number(sum)})))] : []),
      sign("failed", "failed"), sign("wait", "waited"), sign("join", "tried again"));
  }

  swatch(task) {
    const [colour, texture] = this.head.styleOf(task);
    return h("i", {style: `--s: var(--jk-series-${colour})`, "data-texture": texture || false});
  }

  open() {
    this.isOpen = !this.isOpen;
    this.head.draw();
  }

  ask(task) {
    const rest = this.head.box.text.replace(TASK_WORD, " ").trim();
    this.head.box.ask([task && `task:${/^[\w.*<>-]+$/.test(task) ? task : `"${task}"`}`, rest].filter(Boolean).join(" "));
  }
}

const TASK_WORD = /(^|\s)task:("[^"]*"|\S+)/i;

/** The one task that a search asks for, or undefined. */
function taskWord(search) { return search.match(TASK_WORD)?.[2].replaceAll('"', ""); }
