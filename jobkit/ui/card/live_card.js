// The cards of one job and of a batch have this in common: the head, the clock, the notice, and buttons that ask before they
// act. assets.py puts it in front of card.js and batch.js.

/** State of a model that is kept up to date while no view of it exists: a notebook may detach an output and show it later.
 *  `readers(state)` gives what reads each of the model's texts. */
function keptOf(model, state, readers, states = firstStates) {
  let kept = states.get(model);
  if (kept) return kept;
  states.set(model, (kept = {...state, views: new Set()}));
  for (const [name, read] of Object.entries(readers(kept))) {
    model.on(`change:${name}`, read);
    read();
  }
  return kept;
}

const firstStates = new WeakMap();

/** Sections that features add to the card of a job: classes with `root`, `below` (its details), and `show`, `replied`, `themed`, `tick`. */
const SECTIONS = [];

class LiveCard extends View {
  /** A subclass has `build()`, and `listeners`: what to call when a text of the model has changed. */
  constructor(model, el) {
    super(model);
    this.asked = "";
    const n = (this.n = spans({chip: "chip", args: "args mono", elapsed: "elapsed", count: "count", message: "message muted", left: "left muted"}));
    n.title = h("h3", {class: "title"});
    n.actions = h("div", {class: "actions"});
    n.top = h("div", {class: "top"}, n.chip, n.title, n.args, n.elapsed, n.actions);
    n.bar = h("div", {class: "bar", role: "progressbar", "aria-label": "Progress", "aria-valuemin": 0, "aria-valuemax": 100});
    n.below = h("div", {class: "below"}, n.count, n.message, n.left);
    n.copy = h("button", {class: "id mono", title: "Copy the id", onclick: () => copyText(this.job.id, n.copy)});
    n.meta = h("div", {class: "meta muted"}, (n.metaText = h("span")), n.copy);
    n.alert = h("div", {class: "notice", role: "status", hidden: true}, icon("warn"), (n.alertText = h("span")));
    n.live = h("span", {class: "sr", "aria-live": "polite"});
    this.build();
    this.appear(el);
    this.on({...this.listeners, refused: () => this.showRefused(), told: () => this.job && this.showActions()});
  }

  /** The head of a new text. Returns the face that was shown before. */
  showHead(job, face, word) {
    if (job.now) this.skew = Date.parse(job.now) - Date.now();
    this.receivedAt = this.now();
    const before = this.root.dataset.face, {chip} = this.n;
    this.root.dataset.face = face;
    if (isNew(chip, word)) chip.replaceChildren(icon(face), word);
    this.showAlert();
    return before;
  }

  showRefused() {
    if (!this.job) return;
    if (this.model.get("refused")) this.pending = null;
    this.showActions();
    this.showAlert();
  }

  showAlert() {
    const {job, n} = this, refused = this.model.get("refused");
    const alert = job.connection && job.connection !== "live" ? {level: "warning", text: job.connection === "reconnecting" ? "Connection lost, reconnecting; what you see may be old" : job.connection}
      : refused ? {level: "error", text: refused} : job.alert;
    n.alert.hidden = !alert;
    if (!alert) return;
    if (n.alert.dataset.level !== alert.level) n.alert.firstChild.replaceWith(icon(alert.level === "info" ? "info" : "warn"));
    n.alert.dataset.level = alert.level;
    if (isNew(n.alertText, alert.text)) n.alertText.replaceChildren(...ticked(alert.text));
  }

  /** Show facts on a line, and behind them the short id, which a click copies. */
  showMeta(parts) {
    const {id} = this.job, n = this.n;
    put(n.metaText, dotted(...parts));
    if (isNew(n.copy, id)) n.copy.replaceChildren(id.slice(0, 8), icon("copy"));
    n.copy.hidden = !id;
  }

  showElapsed({started_at: started, finished_at: ended}) {
    put(this.n.elapsed, !started ? "" : ended ? duration((Date.parse(ended) - Date.parse(started)) / 1000) : ticking(this.since(started)));
  }

  /** Time left, from the estimate that came with the newest text. */
  timeLeft(eta) { return eta == null ? "" : timeLeft(Math.max(0, eta - (this.now() - this.receivedAt) / 1000)); }

  /** "Tell me", if the person has an address: a message to it at the end. */
  tellButton() {
    const told = this.model.get("told"), on = told === "told";
    return told && h("button", {class: "btn", "aria-pressed": String(on), title: on ? "You get a message when this has ended; click to stop" : "Send a message to my address when this has ended",
      onclick: () => ask(this.model, "tell", {on: !on})}, icon("bell"), "Tell me");
  }

  button(text, cls, onclick, more) { return h("button", {class: `btn ${cls}`, text, onclick, ...more}); }

  /** Show these buttons. The focused button keeps the focus; without it, the last button gets it. */
  putActions(buttons) {
    const {actions} = this.n, focus = focused(), {textContent: text} = actions.contains(focus) ? focus : {};
    actions.replaceChildren(...buttons);
    actions.hidden = !buttons.length;
    if (text) (buttons.find((each) => each.textContent === text) || buttons.at(-1))?.focus();
  }

  /** Ask whether to do it; "" no more. */
  confirm(what) {
    if (what && refused(this.model)) return;
    this.asked = what;
    clearTimeout(this.askedTimer);
    if (what) this.askedTimer = setTimeout(() => this.confirm(""), 6000);
    this.showActions();
  }
}
