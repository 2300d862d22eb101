// Pools on the page of workers (section.py): what each should have and has, why it does not get it, and its buttons.

const POOL_FACES = {active: "succeeded", paused: "retrying", failing: "failed", unmanaged: "retrying", removed: "cancelled"};
const POOL_WORDS = {active: "Active", paused: "Paused", failing: "Failing", unmanaged: "No autoscaler", removed: "Removed"};

class PoolList {
  constructor(page) {
    this.page = page;
    this.rows = new Map();
    this.list = h("div", {class: "list", role: "list", "aria-label": "Pools"});
    this.el = h("section", {class: "pools", "aria-label": "Pools", hidden: true}, h("h2", {text: "Pools"}), this.list);
  }

  show(pools) {
    this.el.hidden = !pools.length;
    for (const row of keyed(this.rows, this.list, pools, "name", (pool) => this.line(pool))) this.fill(row);
  }

  line({name}) {
    const n = {...spans({state: "state", about: "muted about", numbers: "numbers", act: "act"}), said: h("p", {class: "said"}), units: h("ul", {class: "units"})};
    return {n, el: h("div", {class: "pool", role: "listitem"}, h("div", {class: "top"}, n.state, h("b", {class: "mono", text: name, title: name}), n.about, h("span", {class: "spring"}), n.numbers, n.act), n.said, n.units)};
  }

  fill(row) {
    const {n, el, item: pool} = row, face = POOL_FACES[pool.state];
    el.dataset.state = pool.state;
    if (isNew(n.state, pool.state)) n.state.replaceChildren(h("span", {class: "chip", "data-face": face}, icon(face), POOL_WORDS[pool.state]));
    put(n.about, pool.about);
    const counts = [[pool.wanted, "wanted"], [pool.pending, "pending"], [pool.running, "running"]].map(([count, word]) => h("span", {class: count ? "" : "muted"}, h("b", {text: number(count)}), ` ${word}`));
    if (isNew(n.numbers, [pool.wanted, pool.pending, pool.running, pool.worker_hours])) n.numbers.replaceChildren(...counts, h("span", {class: "muted", title: "Time that all its workers have run", text: `${pool.worker_hours} worker-hours`}));
    n.said.hidden = !pool.sentence;
    n.said.dataset.level = pool.state === "failing" ? "error" : "warning";
    if (isNew(n.said, pool.sentence)) n.said.replaceChildren(...ticked(pool.sentence));
    if (isNew(n.units, pool.units)) n.units.replaceChildren(...pool.units.map((unit) => this.unit(unit)), ...(pool.more ? [h("li", {class: "muted", text: `and ${number(pool.more)} more`})] : []));
    this.showAct(row);
  }

  /** A unit, and how many others have the same reason. */
  unit({unit, id, phase, text, host, expected_ms: expected, count}) {
    const time = new Date(expected), at = expected ? `, expected ${time.toDateString() === new Date().toDateString() ? "" : `${time.toLocaleDateString()} `}${pad(time.getHours())}:${pad(time.getMinutes())}` : "";
    return h("li", {"data-phase": phase}, h("span", {class: "mono", text: unit}), h("span", {class: "muted", text: dotted(id, host, count > 1 && `and ${number(count - 1)} like it`)}), h("span", {class: "text", text: `${text}${at}`, title: expected ? exact(new Date(expected)) : ""}));
  }

  showAct(row) {
    const {item: {name, state, max, fixed}, n} = row, page = this.page, may = (verb) => page.may(`${verb}_pool`);
    const allowed = ["pause", "resume", "scale", "drain"].map(may);
    if (!isNew(n.act, [allowed, state, row.asking, row.isScaling, fixed])) return;
    const redraw = () => this.showAct(row), act = (verb, more) => page.act(`${verb}_pool`, name, more), isPaused = state === "paused";
    if (row.isScaling) return n.act.replaceChildren(...this.scaling(row, act, redraw));
    const drain = may("drain") && state !== "removed" ? page.question(row, "Drain…", "Its workers finish their jobs and end; waiting jobs get new ones, unless it is paused", "End all when idle", () => act("drain"), redraw) : [];
    if (row.asking) return n.act.replaceChildren(...drain);
    n.act.replaceChildren(
      ...(state === "removed" ? [] : [may(isPaused ? "resume" : "pause") && h("button", {class: isPaused ? "btn small" : "btn small quiet acts", text: isPaused ? "Resume" : "Pause", title: isPaused ? "" : "Start no more workers; those that run go on", onclick: () => act(isPaused ? "resume" : "pause")}),
        may("scale") && h("button", {class: "btn small quiet acts", text: fixed == null ? "Scale…" : `Fixed at ${number(fixed)}…`, title: `Set a number of workers, at most ${max}`, onclick: () => { row.isScaling = true; redraw(); row.n.act.querySelector("input").focus(); }})].filter(Boolean)),
      ...drain);
  }

  /** The form that fixes the number of workers, or lets the autoscaler decide again. */
  scaling(row, act, redraw) {
    const {item: {name, max, fixed, wanted}} = row, close = () => { row.isScaling = false; redraw(); };
    const input = h("input", {type: "number", class: "field", min: 0, max, value: fixed ?? wanted, "aria-label": `Workers of pool ${name}`});
    const set = () => { act("scale", {workers: input.value}); close(); };
    input.addEventListener("keydown", (event) => { if (event.key === "Enter") set(); if (event.key === "Escape") close(); event.stopPropagation(); });
    return [input, h("button", {class: "btn small primary", text: "Set", onclick: set}),
      ...(fixed == null ? [] : [h("button", {class: "btn small", text: "As many as needed", onclick: () => { act("scale", {workers: ""}); close(); }})]),
      h("button", {class: "btn small quiet", text: "Keep", onclick: close})];
  }
}

SECTIONS.pools = PoolList;
