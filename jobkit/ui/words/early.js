// In the module of what a dashboard shows at first (assets.py). It draws with the values that came with the document
// (frame.html), long before Bokeh has loaded. Bokeh's views then take what is drawn, and what the user has asked meanwhile.

/** The model of a component until Bokeh has one; from then on, a pass to that. */
class EarlyModel {
  /** `repeatsTill`: when it stops to repeat what was asked early (ms), see `ask`. */
  constructor(values) { Object.assign(this, {values, repeatsTill: Infinity, listeners: [], changes: {}}); }
  get(name) { return this.values[name]; }
  set(name, value) { this.changes[name] = value; }
  save_changes() {}
  on(...listener) { this.listeners.push(listener); }
  off(event, fn) { this.listeners = this.listeners.filter((each) => each[0] !== event || each[1] !== fn); }

  become(model) {
    for (const name of ["get", "set", "save_changes", "on", "off"]) this[name] = (...given) => model[name](...given);
    for (const listener of this.listeners) model.on(...listener);
    for (const [event, fn] of this.listeners) {
      const name = event.replace("change:", "");
      if (JSON.stringify(model.get(name)) !== JSON.stringify(this.values[name])) fn();
    }
    this.repeatsTill = Date.now() + 1000;
    for (const change of Object.entries(this.changes)) model.set(...change);
    model.save_changes();
  }
}

/** Milliseconds that a pressed button keeps the page from moving, at most. */
const PRESS_MS = 2000;

/** Draw `components` if the document has values for all of them. */
function drawEarly(components) {
  const told = parse(document.getElementById("jk-early")?.textContent, null);
  if (!told) return;
  const page = h("div", {style: "position: fixed; inset: 0; z-index: 1; display: flex; flex-direction: column; background: var(--jk-ground)"});
  document.body.append(page);
  const drawn = Object.entries(told).map(([name, values], i, all) => {
    const host = h("div", {style: `box-sizing: border-box; flex: ${i < all.length - 1 ? "none" : "1 1 0; min-height: 0"}`});
    const early = {component: components[name], el: h("div", {style: "height: 100%"}), model: new EarlyModel({...values, status: "connecting"})};
    host.attachShadow({mode: "open"}).append(early.el);
    page.append(host);
    early.component.render({...early, view: {model_proxy: {on: (_, fn) => { early.close = fn; }}}});
    early.component.wait = (props) => { early.props = props; takeOver(); };
    return early;
  });
  let timer, pressedTill = 0;  // a release may be missed
  const press = ({type}) => { pressedTill = type === "pointerdown" ? performance.now() + PRESS_MS : 0; }, presses = ["pointerdown", "pointerup", "pointercancel"];
  for (const type of presses) window.addEventListener(type, press, true);
  /** Once Bokeh has a place for each, all move there at once. */
  function takeOver() {
    if (drawn.some(({props}) => !props)) return;
    clearTimeout(timer);
    // A button that moves while it is pressed gets no click.
    if (performance.now() < pressedTill || drawn.some(({props}) => !props.el.isConnected)) return void (timer = setTimeout(takeOver, 10));
    const focus = focused(), hush = (event) => event.stopImmediatePropagation();
    for (const type of presses) window.removeEventListener(type, press, true);
    window.addEventListener("blur", hush, true);  // what has the focus loses it on its way, but is not left
    for (const {component, el, model, close, props} of drawn) {
      delete component.wait;
      const scrolled = [...el.querySelectorAll("*")].filter((each) => each.scrollTop).map((each) => [each, each.scrollTop]);
      const modals = el.querySelectorAll("dialog:modal");
      keepSelected(el, () => props.el.append(...el.childNodes));  // moveBefore() would keep these, but Chromium 156 then forgets to draw ::after
      for (const [each, top] of scrolled) each.scrollTop = top;
      for (const modal of modals) { modal.close(); modal.showModal(); }
      props.view.model_proxy.on("remove", close);
      model.become(modelOf(props));
    }
    page.remove();
    if (focus !== focused()) focus.focus({preventScroll: true});
    window.removeEventListener("blur", hush, true);
  }
}
