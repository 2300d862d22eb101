// What the pointer and the keys do on the timeline: the words of a bar, a click that opens its job or parts a block.

const OUTCOMES = {running: "Running", succeeded: "Succeeded", failed: "Failed", cancelled: "Cancelled", retried: "Failed, tried again", lost: "Lost with its worker or process", released: "Given back by its worker"};

class Pointer {
  constructor(head) {
    this.head = head;
    this.over = this.picked = this.at = null;  // what is pointed at, what the keys chose, where the pointer is
  }

  moved(event) {
    this.at = event;
    if (this.over) this.hide(event);
  }

  /** Return the shape at a position of the figure. */
  under({x, y}) {
    const {head} = this;
    const names = [...head.y.factors], row = names[Math.floor(y)], slack = 3 * (head.x.end - head.x.start) / (head.width || 800), ms = x - head.shift;
    return head.shown.filter((each) => each.y === row && each.left - slack <= ms && ms <= each.right + slack).pop();
  }

  tap(event) {
    const {head} = this, found = this.under(event);
    if (!found) return;
    if (found.bars.length === 1) return ask(head.model, "open", {id: found.bar.job});
    const room = Math.max(1000, found.right - found.left);
    head.follows = false;
    head.move(found.left - room * 0.2, found.right + room * 0.2);
    head.draw();
  }

  hover(event) {
    const found = this.under(event);
    this.over = found;
    found ? this.show(found) : this.leave();
  }

  hide(event) {
    if (!event.composedPath().some((node) => node.tagName === "CANVAS" || node.classList?.contains("bk-events"))) this.leave();
  }

  leave() {
    this.over = null;
    this.head.n.tip.hidden = true;
  }

  show({bar, bars}) {
    const {head} = this, {tip} = head.n, end = bar.end ?? head.now();
    const lines = bars.length > 1 ? [h("b", {text: `${number(bars.length)} attempts`}), h("p", {class: "muted", text: "click to see them apart"})] : [
      h("b", {text: bar.name}), bar.args && h("p", {class: "mono muted", text: bar.args}),
      h("p", {text: dotted(OUTCOMES[bar.outcome] || bar.outcome, duration((end - bar.start) / 1000), bar.ready != null && bar.start - bar.ready >= 1 && `waited ${duration((bar.start - bar.ready) / 1000)}`)}),
      bar.reason && h("p", {text: bar.reason}), h("p", {class: "muted", text: `${bar.worker}${bar.attempt > 1 ? ` · attempt ${bar.attempt}` : ""} · ${exact(bar.start)}`})];
    tip.replaceChildren(...lines.filter(Boolean));
    tip.hidden = false;
    const at = this.at || {clientX: 200, clientY: 120}, box = tip.getBoundingClientRect();
    tip.style.left = `${Math.max(8, Math.min(at.clientX + 14, innerWidth - box.width - 8))}px`;
    tip.style.top = `${Math.max(56, at.clientY + 18 + box.height > innerHeight ? at.clientY - box.height - 12 : at.clientY + 18)}px`;
  }

  /** `j` and `k` go from attempt to attempt, Enter opens its job: the same as the pointer does. */
  key(event) {
    const {head} = this;
    if (isTyping(event) || !head.sources) return;
    const alone = head.shown.filter((each) => each.bars.length === 1), at = alone.findIndex((each) => each.bar === this.picked), step = {j: -1, k: 1}[event.key];
    if (step && alone.length) {
      const found = alone[at < 0 ? alone.length - 1 : Math.max(0, Math.min(alone.length - 1, at + step))];
      this.picked = found.bar;
      const box = head.root.getBoundingClientRect();
      this.at = {clientX: box.left + head.gutter + (found.left + head.shift - head.x.start) / (head.x.end - head.x.start) * head.width, clientY: box.bottom};
      head.draw();
      this.show(found);
    } else if (event.key === "Enter" && this.picked && !/^(BUTTON|A)$/.test(focused()?.tagName)) ask(head.model, "open", {id: this.picked.job});
    else if (event.key === "Escape") {
      if (head.model.get("selected")) ask(head.model, "open", {id: ""});
      this.picked = null;
      this.leave();
      head.draw();
    }
  }
}
