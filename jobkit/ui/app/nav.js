// The header's content (header.py): name, pages, connection. It also makes the page follow the theme of the system, or the
// one that was chosen here before.

class Nav extends View {
  constructor(model, el) {
    super(model);
    const {n} = this;
    n.tabs = h("nav", {class: "tabs", "aria-label": "Pages"});
    n.dot = h("i", {class: "dot"});
    n.word = h("span", {class: "word"});
    n.status = h("span", {class: "status", role: "status"}, n.dot, n.word);
    n.bell = model.get("bell") && "Notification" in window && h("button", {class: "btn quiet bell", "aria-pressed": "false", "aria-label": "Notify me when my jobs end", onclick: () => this.ring()}, icon("bell"), h("span", {class: "said", text: "Notify me"}));
    n.theme = h("button", {class: "btn quiet theme", title: "Light or dark", "aria-label": "Toggle theme", onclick: () => this.switchTheme()}, icon("theme"), h("span", {class: "said", text: "Light or dark"}));
    const [who, logout, place] = ["who", "logout", "place"].map((name) => model.get(name));
    n.who = who && h("span", {class: "who", title: who}, h("span", {class: "name", text: who}), logout && h("a", {href: logout, text: "Log out"}));
    n.keys = h("dl");
    n.help = h("dialog", {class: "help", "aria-label": "Keyboard", onclick: (event) => event.target === n.help && n.help.close()}, h("h2", {text: "Keyboard"}), n.keys);
    // On a phone the pages and tools are behind a button, and the shown page and Submit stand in the line.
    n.rest = h("div", {class: "rest", id: "jk-menu"}, n.tabs, h("span", {class: "spring"}), h("span", {class: "place mono muted", text: place, title: place}), h("span", {class: "tools"}, n.bell, n.theme, n.who));
    n.menu = h("button", {class: "btn quiet menu", "aria-label": "Menu", "aria-expanded": "false", "aria-controls": "jk-menu", onclick: () => this.unfold(!this.isUnfolded)}, icon("menu"));
    n.here = h("h1", {class: "here sr"});
    n.submit = h("a", {class: "btn primary submit", hidden: true, text: "Submit", href: "?page=submit", onclick: (event) => this.go(event, "submit")});
    this.root = h("header", {class: "jk jk-nav"}, n.menu, h("b", {class: "brand"}, h("i", {class: "logo"}), h("span", {text: "jobkit"})), n.here, n.rest, n.status, n.submit, n.help);
    this.appear(el);
    this.stops.push(() => document.documentElement.style.removeProperty("--jk-stale"));
    this.on({page: () => this.showTabs(), pages: () => this.showTabs(), url: () => this.turn(), ended: () => this.notify(),
      status: () => { this.changedAt = Date.now(); this.showStatus(); }, again: () => model.get("again") && location.reload()});
    this.listen(document, "pointerdown", (event) => this.isUnfolded && !event.composedPath().includes(this.root) && this.unfold(false));
    const back = () => ask(model, "url", {search: location.search});
    this.listen(window, "popstate", back);
    this.listen(document, "keydown", (event) => this.key(event));
    if (n.bell) this.setBell(Notification.permission === "granted" && stored("jobkit-bell") === "on");
    this.changedAt = Date.now();
    this.showTabs();
    this.showStatus();
    this.followChoice();
    back();  // a new session for an old window knows only the URL with which the window was opened
  }

  tick() { this.showStatus(); }

  onPulse() { this.showStatus(); }

  /** Links, so that a page can be opened beside this one. */
  showTabs() {
    const {tabs} = this.n, pages = this.model.get("pages"), shown = this.model.get("page");
    if (isNew(tabs, pages)) {
      tabs.replaceChildren(...pages.map(([slug, word]) => h("a", {class: "tab", "data-page": slug, text: word,
        href: slug === this.model.get("home") ? location.pathname : `?page=${slug}`, onclick: (event) => this.go(event, slug)})));
    }
    for (const tab of tabs.children) {
      if (tab.dataset.page === shown) tab.setAttribute("aria-current", "page");
      else tab.removeAttribute("aria-current");
    }
    const current = tabs.querySelector("[aria-current]"), title = this.model.get("title");
    if (current) tabs.scrollLeft = current.offsetLeft - tabs.offsetLeft - (tabs.clientWidth - current.offsetWidth) / 2;
    put(this.n.here, current ? current.textContent : "");
    this.n.submit.hidden = shown === "submit" || !pages.some(([slug]) => slug === "submit");
    this.unfold(false);
    document.title = current && shown !== this.model.get("home") ? `${current.textContent} · ${title}` : title;
  }

  /** Follow a link to a page: a plain click turns to it here. */
  go(event, page) {
    if (event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
    event.preventDefault();
    ask(this.model, "page", {page});
  }

  /** Show or hide the pages and tools on a phone. */
  unfold(isUnfolded) {
    this.isUnfolded = isUnfolded;
    this.root.classList.toggle("unfolded", isUnfolded);
    this.n.menu.setAttribute("aria-expanded", String(isUnfolded));
  }

  /** Show the page's state in the address. */
  turn() {
    const {search, replace} = parse(this.model.get("url"), {});
    if (search == null || search === location.search) return;
    history[replace ? "replaceState" : "pushState"]({}, "", location.pathname + search + location.hash);
  }

  showStatus() {
    const pulse = pulses.get(this.model), status = pulse.isAway ? "reconnecting" : this.model.get("status"), live = status === "live";
    const old = Math.floor((Date.now() - (pulse.isAway ? pulse.heardAt : this.changedAt)) / 1000);
    this.n.status.dataset.status = status;
    document.documentElement.style.setProperty("--jk-stale", live ? "none" : "grayscale(1)");  // of the pages, see dashboard.py
    put(this.n.word, live ? "live" : status === "connecting" && old < 2 ? "" : `${status}${old >= 2 ? `, data ${ticking(old)} old` : ""}`);
  }

  key(event) {
    if (event.key === "Escape" && this.isUnfolded) {
      this.unfold(false);
      this.n.menu.focus();
    }
    if (isTyping(event)) return;
    if (event.key === "?") this.n.help.open ? this.n.help.close() : this.showKeys();
    if (event.key === "n" && this.model.get("page") !== "submit" && this.model.get("pages").some(([slug]) => slug === "submit")) ask(this.model, "page", {page: "submit"});
  }

  /** Show the keys of this page, and those of all pages. */
  showKeys() {
    const every = [["r", "retry the open job"], ["c", "cancel the open job (asks first)"], ["Esc", "close"], ["n", "submit a task"], ["?", "this list"]];
    this.n.keys.replaceChildren(...[...this.model.get("keys"), ...every].flatMap(([key, what]) => [h("dt", null, h("kbd", {text: key})), h("dd", {text: what})]));
    this.n.help.showModal();
  }

  /** Handle a click on the bell. Only then is the user asked for permission. */
  async ring() {
    const on = this.n.bell.getAttribute("aria-pressed") !== "true";
    const answer = on && Notification.permission !== "granted" ? await Notification.requestPermission() : "granted";
    store("jobkit-bell", on && answer === "granted" ? "on" : "");
    this.setBell(on && answer === "granted");
    if (answer !== "granted") this.n.bell.title = "This browser blocks notifications of this page; allow them in its settings for this site";
  }

  setBell(on) {
    this.n.bell.setAttribute("aria-pressed", String(on));
    this.n.bell.title = on ? "You are notified when a job of yours ends or asks; click to stop" : "Notify me when a job of mine ends";
    if (on || this.belled) ask(this.model, "bell", {on});
    this.belled = on;
  }

  notify() {
    for (const {id, title, body} of parse(this.model.get("ended"), {}).ended || []) {
      const note = new Notification(title, {body, tag: id || "jobkit"});
      note.onclick = () => { window.focus(); note.close(); if (id) ask(this.model, "open", {id}); };
    }
  }

  /** Show the theme that was chosen here before, else the system's, and follow both: other tabs choose, too. */
  followChoice() {
    const media = matchMedia("(prefers-color-scheme: dark)");
    const follow = () => this.paint(stored("jobkit-theme") || (media.matches ? "dark" : "light"));
    follow();
    this.listen(media, "change", follow);
    this.listen(window, "storage", follow);
  }

  paint(theme) {
    document.documentElement.dataset.theme = theme;
    // So that the server begins the next page in this theme.
    document.cookie = `jobkit-theme=${theme}; path=/; max-age=31536000; SameSite=Lax`;
    if (this.painted !== theme) ask(this.model, "theme", {dark: theme === "dark"});
    this.painted = theme;
  }

  switchTheme() {
    const theme = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
    store("jobkit-theme", theme);
    this.paint(theme);
  }
}

export default {render: (props) => mount(props, (model, el) => new Nav(model, el))};
