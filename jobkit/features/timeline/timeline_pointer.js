// What the pointer and the keys do on the timeline: the words of a bar, a click that opens its job or parts a block.

const OUTCOMES = {running: "Running", succeeded: "Succeeded", failed: "Failed", cancelled: "Cancelled", retried: "Failed, tried again", lost: "Lost with its worker or process", released: "Given back by its worker"};

/** Name of the figure for screen readers. */
const LANES_LABEL = "Attempts as bars: left and right go from bar to bar, up and down from lane to lane, Enter opens the job, plus and minus zoom";

class Pointer {
  constructor(head) {
    this.head = head;
    this.over = this.picked = this.at = null;  // what is pointed at, what the keys chose, where the pointer is
  }

  /** Let keys reach the figure, once Bokeh has drawn it. */
  reach() {
    const el = globalThis.Bokeh?.index?.find_one?.(this.head.lanes)?.el;
    if (!el || el === this.el) return;
    this.el = el;
    el.style.setProperty("--jk-accent", this.head.colour("accent"));
    // Of Bokeh's own layers below the pointer each is a stop of the Tab key, those of charts without any key, too.
    for (const plot of [this.head.lanes, ...Object.values(this.head.charts)]) globalThis.Bokeh.index.find_one(plot)?.canvas_view?.events_el.removeAttribute("tabindex");
    Object.entries({tabindex: "0", role: "application", "aria-label": LANES_LABEL}).forEach(([name, value]) => el.setAttribute(name, value));
  }

  moved(event) {
    this.at = event;
    if (this.over) this.hide(event);
  }

  /** Return the shape at a position of the figure. */
  under({x, y}) {
    const {head} = this;
    const names = [...head.y.factors], row = names[Math.floor(y)], slack = 3 * (head.x.end - head.x.start) / (head.width || 800), ms = fromAxis(x);
    return head.shown.filter((each) => each.y === row && each.left - slack <= ms && ms <= each.right + slack).pop();
  }

  tap(event) { this.open(this.under(event)); }

  /** Open the job of a bar, or part a block. */
  open(found) {
    const {head} = this;
    if (!found) return;
    if (found.bars.length === 1) return ask(head.model, "open", {id: found.bar.job});
    const room = Math.max(1000, found.right - found.left);
    head.show(found.left - room * 0.2, found.right + room * 0.2);
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
    const {head} = this, {tip} = head.n, end = bar.end ?? head.now(), tasks = new Set(bars.map(({task}) => head.titleOf(task)));
    const lines = bars.length > 1 ? [h("b", {text: `${number(bars.length)} attempts`}), h("p", {text: [...tasks].slice(0, 4).join(", ") + (tasks.size > 4 ? ", …" : "")}), h("p", {class: "muted", text: "Click or press Enter to see them apart"})] : [
      h("b", {text: bar.name}), bar.args && h("p", {class: "mono muted", text: bar.args}),
      h("p", {text: dotted(OUTCOMES[bar.outcome] || bar.outcome, duration((end - bar.start) / 1000), bar.ready != null && bar.start - bar.ready >= 1 && `waited ${duration((bar.start - bar.ready) / 1000)}`)}),
      bar.reason && h("p", {text: bar.reason}), h("p", {class: "muted", text: dotted(bar.worker, bar.attempt > 1 && `attempt ${bar.attempt}`, bar.batch && `batch ${bar.batch}`, exact(bar.start))})];
    tip.replaceChildren(...lines.filter(Boolean));
    tip.hidden = false;
    const at = this.at || {clientX: 200, clientY: 120}, box = tip.getBoundingClientRect();
    tip.style.left = `${Math.max(8, Math.min(at.clientX + 14, innerWidth - box.width - 8))}px`;
    tip.style.top = `${Math.max(56, at.clientY + 18 + box.height > innerHeight ? at.clientY - box.height - 12 : at.clientY + 18)}px`;
  }

  // -- keys ----------------------------------------------------------------------------------------------------------

  /** The same as the pointer does. Arrows belong to the page until they are used on the figure. */
  key(event) {
    const {head} = this, focus = focused(), isFree = !focus || focus === document.body || focus === this.el;
    if (isTyping(event) || !head.sources) return;
    const arrow = /^Arrow(Left|Right|Up|Down)$/.exec(event.key)?.[1], zoom = {"+": 0.5, "=": 0.5, "-": 2}[event.key];
    if (/^[jk]$/.test(event.key)) this.pick(this.next(head.shown, event.key === "k" ? 1 : -1));
    else if (arrow && isFree && (this.picked || focus === this.el || /^[LR]/.test(arrow))) {
      event.preventDefault();
      this.pick(/^[LR]/.test(arrow) ? this.beside(arrow === "Right" ? 1 : -1) : this.above(arrow === "Up" ? 1 : -1));
    } else if (zoom) head.zoom(zoom, this.shape());
    else if (event.key === "0") head.follow();
    else if (event.key === "Enter" && this.picked && !/^(BUTTON|A)$/.test(focus?.tagName)) this.open(this.shape());
    else if (event.key === "Escape") {
      if (head.model.get("selected")) ask(head.model, "open", {id: ""});
      this.picked = null;
      this.leave();
      head.draw();
    }
  }

  /** The shape of the bar that the keys chose, if it is in sight. */
  shape() { return this.head.shown.find((each) => each.bars.includes(this.picked)); }

  /** The one before or behind it in the order of starts; the newest one at first. */
  next(shapes, step) {
    const at = shapes.indexOf(this.shape());
    return at < 0 ? shapes[shapes.length - 1] : shapes[Math.max(0, Math.min(shapes.length - 1, at + step))];
  }

  beside(step) {
    const shape = this.shape();
    return this.next(shape ? this.head.shown.filter(({y}) => y === shape.y) : this.head.shown, step);
  }

  /** The nearest one in the next lane that has any. */
  above(step) {
    const {head} = this, shape = this.shape(), lanes = [...head.y.factors], middle = ({left, right}) => (left + right) / 2;
    if (!shape) return this.next(head.shown, 0);
    for (let lane = lanes.indexOf(shape.y) + step; lanes[lane] !== undefined; lane += step) {
      const found = head.shown.filter(({y}) => y === lanes[lane]);
      if (found.length) return found.reduce((best, each) => (Math.abs(middle(each) - middle(shape)) < Math.abs(middle(best) - middle(shape)) ? each : best));
    }
    return shape;
  }

  pick(found) {
    if (!found) return;
    const {head, el} = this, lane = head.y.factors.length - 1 - head.y.factors.indexOf(found.y);
    this.picked = found.bar;
    head.draw();
    const box = (el || head.root).getBoundingClientRect(), x = Math.max(head.x.start, toAxis(found.left));
    this.at = {clientX: box.left + head.gutter + (x - head.x.start) / (head.x.end - head.x.start) * head.width, clientY: el ? box.top + (lane + 1) * LANE - 10 : box.bottom};
    const hidden = this.at.clientY > innerHeight - 40 ? this.at.clientY - innerHeight + 120 : this.at.clientY < 90 ? this.at.clientY - 120 : 0;
    if (el && hidden) {
      const before = el.getBoundingClientRect().top;
      scrolled(el)?.scrollBy(0, hidden);
      this.at.clientY += el.getBoundingClientRect().top - before;
    }
    this.show(found);
  }
}

/** The element around `el` that scrolls, across shadow roots. */
function scrolled(el) {
  for (let node = el; node; node = node.parentNode || node.host) if (node.nodeType === 1 && node.scrollHeight > node.clientHeight + 1 && /auto|scroll/.test(getComputedStyle(node).overflowY)) return node;
  return null;
}
