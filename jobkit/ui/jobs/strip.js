// The activity strip above a table's rows: a bar for each job, the oldest left. Colour is state, height is how long it
// took. A click opens the job; dragging over bars asks for the jobs of that time. The rows say the same in words.

/** So many bars at most; fewer jobs than the second number are seen at a glance without it. */
const [STRIP_BARS, STRIP_LEAST] = [100, 12];

/** A bar's height: from the shortest run to the longest, on a scale of decades. */
const [BAR_LOW, BAR_HIGH] = [4, 42];

class Strip {
  constructor(table) {
    this.table = table;
    this.from = null;  // where a drag began
    this.bars = h("div", {class: "bars", "aria-hidden": "true", title: "Drag over bars to see the jobs of that time",
      onpointerdown: (event) => this.down(event), onpointermove: (event) => this.move(event), onpointerup: (event) => this.up(event), onpointercancel: () => this.stop()});
    [this.since, this.until] = [h("span", {class: "edge"}), h("span", {class: "edge"})];
    this.all = h("button", {class: "btn quiet small", text: "All times", onclick: () => table.box.ask(without(table.model.get("search")))});
    this.el = h("div", {class: "activity", hidden: true}, this.all, this.since, this.bars, this.until);
  }

  /** Not with each of a job's reports. */
  soon() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.show(), 250);
  }

  show() {
    const {table, bars} = this, jobs = [...table.rows.values()].map(({data}) => data).filter((data) => data.submitted_at);
    jobs.sort((one, two) => (one.submitted_at < two.submitted_at ? -1 : 1)).splice(0, jobs.length - STRIP_BARS);
    this.all.hidden = !/(^|\s)(age|older|newer):/.test(table.model.get("search") || "");
    this.el.hidden = jobs.length < STRIP_LEAST && this.all.hidden;
    if (this.el.hidden || this.from != null) return;
    const took = ({started_at: from, finished_at: to}) => (from ? Math.max(0, (to ? Date.parse(to) : this.table.now()) - Date.parse(from)) / 1000 : 0);
    const scale = Math.log10(1 + Math.max(1, ...jobs.map(took)));
    while (bars.childElementCount > jobs.length) bars.lastChild.remove();
    while (bars.childElementCount < jobs.length) bars.append(h("i"));
    jobs.forEach((data, i) => {
      const bar = bars.children[i], seconds = took(data), height = `${Math.round(BAR_LOW + (BAR_HIGH - BAR_LOW) * Math.log10(1 + seconds) / scale)}px`;
      Object.assign(bar, {job: data.id, at: Date.parse(data.submitted_at)});
      if (bar.dataset.face !== data.face) bar.dataset.face = data.face;
      if (bar.style.height !== height) bar.style.height = height;
      const title = `${data.name}${data.args ? ` ${data.args}` : ""}\n${WORDS[data.face] || data.face}${seconds ? `, ${duration(seconds)}` : ""}`;
      if (bar.title !== title) bar.title = title;
    });
    this.edges(jobs.length && Date.parse(jobs[0].submitted_at), jobs.length && Date.parse(jobs[jobs.length - 1].submitted_at));
  }

  edges(from, to) {
    put(this.since, from ? ago((this.table.now() - from) / 1000) : "");
    put(this.until, to ? ago((this.table.now() - to) / 1000) : "");
  }

  // -- dragging ------------------------------------------------------------------------------------------------------

  /** The bar at or nearest to the pointer. */
  nearest(event) {
    const all = [...this.bars.children], apart = (bar) => { const box = bar.getBoundingClientRect(); return Math.abs((box.left + box.right) / 2 - event.clientX); };
    return all.reduce((best, bar, i) => (apart(bar) < apart(all[best]) ? i : best), 0);
  }

  down(event) {
    if (event.button || !this.bars.childElementCount) return;
    event.preventDefault();
    this.bars.setPointerCapture(event.pointerId);
    this.from = this.nearest(event);
    this.x = event.clientX;
  }

  move(event) {
    if (this.from == null || Math.abs(event.clientX - this.x) < 4) return;
    const [low, high] = this.span(event);
    [...this.bars.children].forEach((bar, i) => bar.classList.toggle("out", i < low || i > high));
    this.edges(this.bars.children[low].at, this.bars.children[high].at);
  }

  up(event) {
    if (this.from == null) return;
    const [low, high] = this.span(event), {table, bars} = this, dragged = Math.abs(event.clientX - this.x) >= 4;
    const hit = event.clientY >= bars.children[this.from].getBoundingClientRect().top;
    const age = this.age(low, high), {job} = bars.children[low];  // `stop` shows the rows as they are by now: maybe fewer
    this.stop();
    if (dragged) table.box.ask([without(table.model.get("search")), age].filter(Boolean).join(" "));
    else if (hit) table.open(job);
  }

  span(event) {
    const to = this.nearest(event);
    return [Math.min(this.from, to), Math.max(this.from, to)];
  }

  stop() {
    this.from = null;
    for (const bar of this.bars.children) bar.classList.remove("out");
    this.show();
  }

  /** `age:602s..847s`: from half way to the bar before to half way to the one behind, since jobs grow older while one looks. */
  age(low, high) {
    const at = [...this.bars.children].map((bar) => (this.table.now() - bar.at) / 1000), [most, least] = [at[low], at[high]], span = most - least;
    const oldest = low ? (most + at[low - 1]) / 2 : most + Math.max(2, span / 10), newest = high + 1 < at.length ? (least + at[high + 1]) / 2 : least;
    const [unit, name] = span < 7200 ? [1, "s"] : span < 432000 ? [60, "m"] : [3600, "h"];
    return `age:${Math.max(0, Math.floor(newest / unit))}${name}..${Math.ceil(oldest / unit)}${name}`;
  }
}

/** A search text without what it says of time. */
function without(search) {
  return (search || "").split(/\s+/).filter((word) => word && !/^(age|older|newer):/.test(word)).join(" ");
}
