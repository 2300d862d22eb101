// Shared by every jobkit component; assets.py puts it in front of card.js, table.js, form.js and nav.js.
// Text of users reaches the page through `textContent` and attributes only: there is no innerHTML in this package.

/** An element: `h("button", {class: "btn", onclick, text}, ...children)`; false and null children are left out. */
function h(tag, props, ...children) {
  const el = document.createElement(tag);
  for (const [name, value] of Object.entries(props || {})) {
    if (value == null || value === false) continue;
    if (name === "text") el.textContent = value;
    else if (name === "class") el.className = value;
    else if (name.startsWith("on")) el.addEventListener(name.slice(2), value);
    else if (name === "value" || name === "checked" || name === "srcdoc") el[name] = value;
    else el.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children.flat()) if (child != null && child !== false) el.append(child);
  return el;
}

/** States that a job never leaves, and those without a value; twins of `ENDS` and `UNSUCCESSFUL` in Python. */
const ENDS = ["succeeded", "failed", "cancelled"], UNSUCCESSFUL = ENDS.slice(1);

const WORDS = {
  queued: "Queued", scheduled: "Scheduled", running: "Running", retrying: "Retrying",
  succeeded: "Succeeded", failed: "Failed", cancelled: "Cancelled", pruned: "Pruned",
};

function parse(text, otherwise) {
  try { return JSON.parse(text || "null") ?? otherwise; } catch { return otherwise; }
}

const pad = (n) => String(n).padStart(2, "0");

/** Twin of `format.duration`. */
function duration(seconds) {
  if (seconds == null || !Number.isFinite(seconds)) return "";
  const s = Math.max(0, seconds), ms = Math.floor(s * 1000 + 0.5);
  if (ms < 1000) return `${ms} ms`;
  if (Math.floor(s * 10 + 0.5) < 100) return `${(Math.floor(s * 10 + 0.5) / 10).toFixed(1)} s`;
  const whole = Math.floor(s + 0.5);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} m ${pad(whole % 60)} s`;
  const minutes = Math.floor(whole / 60);
  if (minutes < 1440) return `${Math.floor(minutes / 60)} h ${pad(minutes % 60)} m`;
  return `${Math.floor(minutes / 1440)} d ${Math.floor(minutes / 60) % 24} h`;
}

/** A running clock shows whole seconds, so that it does not flicker: `0 s`, `12 s`, `3 m 29 s`. */
function ticking(seconds) {
  const whole = Math.floor(Math.max(0, seconds));
  return whole < 10 ? `${whole} s` : duration(whole);
}

/** Twin of `format.ago`; `delta` is in seconds, positive for the past. */
function ago(delta) {
  if (delta == null || !Number.isFinite(delta)) return "";
  const size = Math.abs(delta);
  if (size < 1.5) return delta >= 0 ? "just now" : "now";
  const text = size < 60 ? `${Math.floor(size)} s` : size < 3600 ? `${Math.floor(size / 60)} min`
    : size < 172800 ? `${Math.floor(size / 3600)} h` : `${Math.floor(size / 86400)} d`;
  return delta > 0 ? `${text} ago` : `in ${text}`;
}

/** Twin of `format.time_left`. */
function timeLeft(eta) {
  if (eta == null || !Number.isFinite(eta) || eta < 0) return "";
  if (eta < 5) return "a few seconds left";
  if (eta <= 55) return `about ${Math.ceil(eta / 5) * 5} s left`;
  let minutes = Math.max(1, Math.floor(eta / 60 + 0.5));
  if (minutes < 60) return `about ${minutes} min left`;
  minutes = Math.floor(minutes / 5 + 0.5) * 5;
  if (minutes < 1440) return `about ${Math.floor(minutes / 60)} h${minutes % 60 ? ` ${pad(minutes % 60)} min` : ""} left`;
  return `about ${Math.floor(minutes / 1440 + 0.5)} d left`;
}

/** Width of the bar of a job that counts nothing, by what its task's runs usually take: the tick stands at 80 %. */
function usualWidth(elapsed, typical) {
  const part = elapsed / typical;
  return `${part <= 1 ? 80 * part : 100 - 20 / part}%`;
}

/** Twin of `format.number`. */
function number(value) {
  if (value == null || !Number.isFinite(value)) return "";
  if (Number.isInteger(value)) return value.toLocaleString("en-US");
  if (Math.abs(value) >= 1000) return value.toLocaleString("en-US", {minimumFractionDigits: 1, maximumFractionDigits: 1});
  const short = Number(value.toPrecision(4));
  return Math.abs(short) >= 1e-4 ? String(short) : short.toExponential().replace(/-(\d)$/, "-0$1");  // as Python writes it
}

/** `1 job`, `2,000 jobs`. */
const many = (count, word) => `${number(count)} ${word}${count === 1 ? "" : "s"}`;

/** Facts on one line; empty ones are left out. */
const dotted = (...facts) => facts.filter(Boolean).join(" · ");

/** Spans by name, each with its class. */
const spans = (classes) => Object.fromEntries(Object.entries(classes).map(([name, cls]) => [name, h("span", {class: cls})]));

function bytes(count) {
  let amount = count;
  for (const unit of ["B", "kB", "MB", "GB"]) {
    if (amount < 999.5) return unit === "B" || amount >= 9.95 ? `${Math.round(amount)} ${unit}` : `${amount.toFixed(1)} ${unit}`;
    amount /= 1000;
  }
  return `${amount.toFixed(1)} TB`;
}

/** The exact moment, with its zone, for a tooltip. */
function exact(iso) {
  const at = new Date(iso);
  return Number.isNaN(at.getTime()) ? "" : at.toLocaleString(undefined, {dateStyle: "medium", timeStyle: "long"});
}

/** `15:26:43.1` in the reader's zone. */
function clock(iso) {
  const at = new Date(iso);
  if (Number.isNaN(at.getTime())) return "";
  return `${pad(at.getHours())}:${pad(at.getMinutes())}:${pad(at.getSeconds())}.${Math.floor(at.getMilliseconds() / 100)}`;
}

/** Writes text only if it changed: an untouched node keeps its selection and needs no layout. */
function put(el, text) {
  if (el.textContent !== text) el.textContent = text;
}

/** Return a value that this browser keeps, or null. */
function stored(key) {
  try { return localStorage.getItem(key); } catch { return null; }
}

/** Keep a value in this browser. Return whether it allows that. */
function store(key, value) {
  try { localStorage.setItem(key, value); return true; } catch { return false; }
}

/** Return whether the values that `el` shows have changed since the last call. */
function isNew(el, values) {
  const key = JSON.stringify(values);
  if (el.dataset.key === key) return false;
  el.dataset.key = key;
  return true;
}

/** Show a row for each of `items` in a list, in their order, and return the rows: `{el, item, ...}` as `make(item)` gave them.
 *  `rows` keeps them by `item[key]`. The order stays as it is if `isFixed` and no row has come or gone. */
function keyed(rows, list, items, key, make, isFixed = false) {
  const keep = new Set(items.map((item) => item[key])), isSame = keep.size === rows.size && [...keep].every((id) => rows.has(id));
  for (const [id, row] of rows) if (!keep.has(id)) { row.el.remove(); rows.delete(id); }
  return items.map((item, i) => {
    const row = rows.get(item[key]) || make(item);
    rows.set(item[key], Object.assign(row, {item}));
    if (!(isFixed && isSame) && list.children[i] !== row.el) list.insertBefore(row.el, list.children[i] || null);
    return row;
  });
}

/** Code with a button to copy it. */
function codeBlock(code) {
  const copy = h("button", {class: "btn small", type: "button", onclick: () => copyText(code, copy)}, icon("copy"), "Copy");
  return h("div", {class: "snippet"}, h("pre", {class: "mono", text: code}), copy);
}

/** Buttons as a radio group, for choices `[value, text, title]`: a click or an arrow key calls `pick(value, isKey)`, and `mark`
 *  shows the chosen value. */
function radios(choices, pick, props) {
  const buttons = choices.map(([value, text, title]) => h("button", {type: "button", role: "radio", text, title, "data-value": value, onclick: () => pick(value, false)}));
  const el = h("div", {class: "segments", role: "radiogroup", ...props, onkeydown: (event) => {
    const step = {ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1}[event.key], at = (buttons.indexOf(event.target) + step + buttons.length) % buttons.length;
    if (!step) return;
    event.preventDefault();
    buttons[at].focus();
    pick(choices[at][0], true);
  }}, buttons);
  const mark = (chosen) => {
    const at = choices.findIndex(([value]) => value === chosen);
    buttons.forEach((button, i) => { button.setAttribute("aria-checked", String(i === at)); button.tabIndex = i === Math.max(0, at) ? 0 : -1; });
  };
  return {el, mark};
}

function saveBlob(name, blob) {
  const url = URL.createObjectURL(blob);
  h("a", {href: url, download: name}).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

async function copyText(text, button) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {  // not a secure context, or no permission: the old way still works there
    const area = h("textarea", {value: text, style: "position:fixed;opacity:0"});
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  if (!button) return;
  const before = [...button.childNodes];
  button.replaceChildren(icon("check"), before.length > 1 ? "Copied" : "");
  setTimeout(() => button.replaceChildren(...before), 1200);
}

/** The element of Panel's Material page around `el`, which carries mui-dark or mui-light; it may be across shadow roots. */
function materialPage(el) {
  let found = null;
  for (let node = el; node; node = node.parentNode || node.host) if (/\bmui-(dark|light)\b/.test(node.className)) found ??= node;
  return found || document.querySelector(".mui-dark, .mui-light");
}

function hostTheme(el) {
  const body = document.body, root = document.documentElement;
  if (body.dataset.jpThemeLight) return body.dataset.jpThemeLight === "true" ? "light" : "dark";
  if (body.dataset.vscodeThemeKind) return body.dataset.vscodeThemeKind.includes("light") ? "light" : "dark";
  const page = materialPage(el);
  if (page) return page.classList.contains("mui-dark") ? "dark" : "light";
  if (root.dataset.theme === "dark" || root.dataset.bsTheme === "dark" || body.dataset.theme === "dark") return "dark";
  if (body.dataset.theme === "light") return "light";  // marimo
  return matchMedia("(prefers-color-scheme: dark)").matches && !root.dataset.themeManaged ? "dark" : "light";
}

/** Calls `fn` when `el` has come into the document: components are made before they are put there. */
function whenConnected(el, fn, tries = 200) {
  if (el.isConnected) fn();
  else if (tries) setTimeout(() => whenConnected(el, fn, tries - 1), tries > 190 ? 10 : 50);
}

/** Keeps `data-theme` on `el` equal to the theme around it, and calls `changed` when it does; returns how to stop. */
function followTheme(el, changed) {
  let stopped = false;
  const look = () => {
    const theme = hostTheme(el);
    if (el.dataset.theme === theme) return;
    el.dataset.theme = theme;
    if (changed) changed();
  };
  const observer = new MutationObserver(look);
  const options = {attributes: true, attributeFilter: ["class", "data-jp-theme-light", "data-theme", "data-bs-theme", "data-vscode-theme-kind"]};
  const media = matchMedia("(prefers-color-scheme: dark)");
  look();
  whenConnected(el, () => {
    if (stopped) return;
    look();
    const page = materialPage(el);
    for (const node of [document.documentElement, document.body, page]) if (node) observer.observe(node, options);
  });
  media.addEventListener("change", look);
  return () => {
    stopped = true;
    observer.disconnect();
    media.removeEventListener("change", look);
  };
}

/** Calls `fn` once a second while the page is visible and, where `root` is given, the other side speaks: no clock ticks on stale data. */
function everySecond(fn, root) {
  const timer = setInterval(() => document.visibilityState !== "hidden" && !root?.hasAttribute("data-away") && fn(), 1000);
  return () => clearInterval(timer);
}

/** Milliseconds between two checks for silence, and from the server's return to a reload if its session does not speak again. */
const CHECK_MS = 250, RELOAD_MS = 3000;

/**
 * Detects the silence of the other side: this page's session (`send_beats` in bridge.py) or a notebook's kernel. It counts
 * its own checks, not the time, and none while the page is hidden: a laptop that slept and a throttled tab are no silence.
 */
class Pulse {
  constructor(limitMs, isPage) {
    Object.assign(this, {limit: limitMs / CHECK_MS, isPage, silent: 0, isAway: false, isExpected: false, refused: false, listeners: new Set(), holds: new Set(), heardAt: isPage ? Date.now() : null});
    this.timer = setInterval(() => this.check(), CHECK_MS);
    for (const page of isPage && globalThis.Bokeh?.documents || []) {
      page.on_event("connection_lost", (_, lost) => { this.lost = lost; });
      page.on_event("client_reconnected", () => this.reconnected(page));
    }
  }

  beat() {
    this.silent = 0;
    this.heardAt = Date.now();
    this.isExpected = true;
    this.answeredAt = null;
    if (this.isAway) this.turn(false);
  }

  check() {
    if (document.visibilityState === "hidden" || !this.isExpected) return;
    this.silent += 1;
    if (!this.isAway && this.silent >= this.limit) this.turn(true);
    else if (this.isAway && this.silent % (1000 / CHECK_MS) === 0) {
      if (this.isPage) this.probe();
      this.notify();
    }
  }

  turn(isAway) {
    this.isAway = isAway;
    this.refused = isAway && this.askedAt > this.heardAt && "Your last request may not have arrived. ";
    this.notify();
  }

  notify() { this.listeners.forEach((fn) => fn()); }

  /** Refuse a request while the server does not answer. */
  refuse() {
    this.refused = "Nothing was sent. ";
    this.notify();
  }

  /** Check whether the server answers again. A page of a user's app then gets its session back. A session that stays
   *  silent is lost: reload the page, unless something is typed in it. */
  async probe() {
    const asset = [...document.scripts].find(({src}) => src.startsWith(location.origin) && src.includes("/static/"));
    const answers = await isAnswered(asset ? asset.src : location.href);
    if (!this.isAway || !answers) this.answeredAt = null;
    else if ((this.answeredAt ??= Date.now()) + RELOAD_MS > Date.now()) {
      if (!this.isSaid && !this.holdsInput()) this.lost?.reconnect();
    }
    else if (this.holdsInput()) this.notify();
    else if (await isAnswered(location.href) && this.isAway) location.reload();
  }

  /** The page shows what its session has now, and components that beat say so again. If the session is a new one, the
   *  page lacks what its server adds to a page (`_pull` in patch.py): reload. */
  reconnected(page) {
    this.lost = this.answeredAt = null;
    if (this.isSaid) return;  // a dashboard is reloaded instead, at its address
    if (!page.roots()[0]?.tags.includes("kept")) return void location.reload();
    Object.assign(this, {silent: 0, isExpected: false});
    if (this.isAway) this.turn(false);
  }

  holdsInput() { return [...this.holds].some((holds) => holds()); }

  /** Return the sentence that the page shows; `elsewhere` says where to look instead, in a notebook. */
  sentence(elsewhere) {
    const said = this.refused || "", state = this.heardAt == null ? "The page shows a saved state" : `The page shows the state of ${clock(this.heardAt).slice(0, 8)}`;
    if (!this.isPage) return `${said}The kernel does not answer: it has ended or was restarted. ${state}.${elsewhere ? ` ${elsewhere}` : ""}`;
    if (this.answeredAt && this.holdsInput()) return `${said}The server is back, but this page has lost its session. Load it again to continue; typed values will be lost.`;
    return `${said}The server does not answer. ${state}, and nothing can be changed. The page reconnects by itself.`;
  }
}

/** Return whether a server answers at an address; a proxy's "bad gateway" is no answer. */
async function isAnswered(url) {
  try {
    const answer = await fetch(url, {method: "HEAD", cache: "no-store", redirect: "manual", signal: AbortSignal.timeout(2000)});
    return ![502, 503, 504].includes(answer.status);
  } catch {
    return false;
  }
}

/** The pulse of a model: one for the whole page in Panel, one for each view in a notebook. */
const pulses = new WeakMap();

/** Let a component show that the server does not answer: its root gets `data-away`, its buttons are disabled (of the quiet ones those
 *  that act on the server: `acts`), and it says why unless the page has a place for that (a banner of `Notice`). A component may have `onPulse()`, called with each change, and `elsewhere`. */
function followPulse(model, el, isPage) {
  const pulse = isPage ? (globalThis.jobkitPulse ??= new Pulse(2500, true)) : new Pulse(7000, false);
  pulses.set(model, pulse);
  const stops = [];
  const on = (name, fn) => { model.on(name, fn); stops.push(() => model.off(name, fn)); };
  const isBeating = () => Number(model.get("beat")) > 0, beat = () => { if (isBeating()) pulse.beat(); else if (!isPage) pulse.isExpected = false; };
  on("change:beat", beat);
  if (isPage) {
    model.set("beat", "shown");  // from now on beats come here
    model.save_changes();
  } else {
    pulse.isExpected = isBeating();  // a page that was saved has the last beat of a kernel that may be gone
    on("comm_live_update", () => { if (el.closest(".jupyter-widgets-disconnected")) { pulse.isExpected = true; pulse.turn(true); } });
    const saved = model.get("saved"), hidden = h("style", {text: `#${saved}, .jp-OutputArea-child:has(#${saved}) { display: none }`});
    if (saved) {  // the static card of a saved notebook is hidden, unless this page never heard of a kernel
      document.head.append(hidden);
      pulse.listeners.add(() => {
        const isStatic = pulse.isAway && pulse.heardAt == null;
        el.style.display = isStatic ? "none" : "";
        hidden.media = isStatic ? "not all" : "";
      });
    }
    if (globalThis.__MARIMO_STATIC__) pulse.turn(true);  // an export of marimo
    stops.push(() => clearInterval(pulse.timer), () => hidden.remove());
  }
  return {stop: () => stops.forEach((stop) => stop()), show(component) {
    const root = component.root || el, said = h("span"), reload = h("button", {class: "btn small reload", text: "Load again", hidden: true, onclick: () => location.reload()});
    const note = h("div", {class: "away", role: "status", hidden: true}, icon("warn"), said, reload);
    const show = () => {
      const isAway = pulse.isAway, isSaid = isAway && (component.saysAway || !pulse.isSaid);
      root.toggleAttribute("data-away", isAway);
      component.onPulse?.();
      for (const button of root.querySelectorAll(isAway ? ".btn:not(:disabled, .quiet:not(.acts), .reload)" : ".btn[data-locked]")) button.disabled = button.toggleAttribute("data-locked", isAway);
      if (isSaid && !note.isConnected) root.prepend(note);
      note.hidden = !isSaid;
      if (isSaid) {
        const text = pulse.sentence(component.elsewhere);
        if (said.dataset.text !== text) { said.dataset.text = text; said.replaceChildren(...ticked(text)); }
        reload.hidden = !(pulse.answeredAt && pulse.holdsInput());
      }
    };
    if (component.saysAway) pulse.isSaid = true;
    if (component.holds) pulse.holds.add(component.holds);
    pulse.listeners.add(show);
    stops.push(() => { pulse.listeners.delete(show); pulse.holds.delete(component.holds); if (component.saysAway) pulse.isSaid = false; });
    if (pulse.isAway) show();
  }};
}

/** `code` in backticks becomes <code>: the only markup that a sentence has. */
function ticked(text) { return text.split("`").map((part, i) => (i % 2 ? h("code", {text: part}) : part)); }

/** Call `fn`, which may take nodes of `el` out of the page and put them back: what is selected in it stays selected. */
function keepSelected(el, fn) {
  const selected = el.getRootNode().getSelection?.() ?? document.getSelection();  // null in a frame that is not shown
  const {anchorNode, anchorOffset, focusNode, focusOffset} = selected ?? {};
  const isKept = selected && !selected.isCollapsed && el.contains(anchorNode) && el.contains(focusNode);
  fn();
  if (!isKept || !anchorNode.isConnected || !focusNode.isConnected) return;
  const within = (node, offset) => [node, Math.min(offset, node.nodeType === Node.TEXT_NODE ? node.length : node.childNodes.length)];
  document.getSelection().setBaseAndExtent(...within(anchorNode, anchorOffset), ...within(focusNode, focusOffset));
}

/** The element that has the focus, across shadow roots. */
function focused() {
  let focus = document.activeElement;
  while (focus?.shadowRoot?.activeElement) focus = focus.shadowRoot.activeElement;
  return focus;
}

/** Return whether a key belongs to a field or a shortcut of the browser, and so is no command of ours. */
function isTyping(event) {
  const focus = focused();
  return event.ctrlKey || event.metaKey || event.altKey || focus && (/^(INPUT|TEXTAREA|SELECT)$/.test(focus.tagName) && focus.type !== "checkbox" || focus.isContentEditable);
}

let requests = 0;
const recent = new WeakMap();

/** Requests that the page sends without the user. */
const BY_ITSELF = ["hello", "url", "theme", "hidden", "visible", "alike", "log", "check", "tasks", "preview", "first", "complete", "zone", "log-lines", "log-hits"];

/** True if the server does not answer; then the page says that nothing was sent. */
function refused(model) {
  const pulse = pulses.get(model);
  if (pulse?.isAway) pulse.refuse();
  return Boolean(pulse?.isAway);
}

/** Sends a request to Python, in a notebook and in Panel alike: a synced text that is different each time. It repeats the
 *  requests of the last second, since Panel may keep only the last text of a moment; Python knows them by `n`. What was
 *  asked of an early model (early.js) is sent later than that: it repeats all, also for a second after.
 *  While the server does not answer, nothing is sent: it returns false, and the page says so. */
function ask(model, action, more) {
  const now = Date.now(), pulse = pulses.get(model), isByHand = !BY_ITSELF.includes(action);
  if (isByHand && refused(model) || pulse?.isAway && action !== "hello") return false;
  if (pulse && isByHand) pulse.askedAt = now;
  const asked = {action, ...more, n: `${now}-${++requests}`};
  const earlier = (recent.get(model) || []).filter((each) => now < model.repeatsTill || now - parseInt(each.n) < 1000);
  recent.set(model, [...earlier, asked]);
  model.set("request", JSON.stringify({...asked, ...(earlier.length && {earlier})}));
  model.save_changes();
  return true;
}

/** The model as anywidget spells it. Panel gives its components one of two other shapes, and which one is decided by the
 *  component that rendered first on the page (its render modules share a cache), so both are understood everywhere. */
function modelOf({model, view}) {
  if (model && typeof model.get === "function" && typeof model.save_changes === "function") return model;
  const proxy = view?.model_proxy || model;
  return {
    get: (name) => proxy[name],
    set: (name, value) => { proxy[name] = value; },
    save_changes: () => {},
    on: (event, fn) => proxy.on(event, fn),
    off: (event, fn) => proxy.off(event, fn),
  };
}

/** Base of the components that show live data: what they listen to until they close, and the server's clock. */
class View {
  constructor(model) { Object.assign(this, {model, n: {}, stops: [], skew: 0}); }

  /** Call functions when a text of the model has changed: `{text: function}`. */
  on(listeners) {
    for (const [name, fn] of Object.entries(listeners)) {
      this.model.on(`change:${name}`, fn);
      this.stops.push(() => this.model.off(`change:${name}`, fn));
    }
  }

  /** Call `fn` for events of a node. */
  listen(node, name, fn) {
    node.addEventListener(name, fn);
    this.stops.push(() => node.removeEventListener(name, fn));
  }

  /** Close a `details` that covers what is below, with Escape or a click elsewhere. */
  popup(details) {
    this.listen(document, "pointerdown", (event) => { if (!event.composedPath().includes(details)) details.open = false; });
    this.listen(details, "keydown", (event) => { if (event.key === "Escape" && details.open) { details.open = false; event.stopPropagation(); details.firstChild.focus(); } });
    return details;
  }

  /** Put the root into the page: it follows the theme around it, and `tick` is called each second. */
  appear(el) {
    el.append(this.root);
    this.stops.push(followTheme(this.root, () => this.themed?.()), everySecond(() => this.tick(), this.root));
  }

  close() { this.stops.forEach((stop) => stop()); }

  /** Return the time by the server's clock (ms). */
  now() { return Date.now() + this.skew; }

  /** Return the seconds since a moment, by the server's clock; null for none. */
  since(at) { return at ? (this.now() - Date.parse(at)) / 1000 : null; }
}

/** Mounts a component: `make(model, el)` returns an object with `close`. For anywidget, returns how to end it. */
function mount(props, make) {
  const model = modelOf(props), el = props.el || props.view.container;
  const pulse = followPulse(model, el, Boolean(props.view)), made = make(model, el);
  pulse.show(made);
  const close = () => { pulse.stop(); made.close(); };
  if (props.view) props.view.model_proxy.on("remove", close);
  else return close;
}
