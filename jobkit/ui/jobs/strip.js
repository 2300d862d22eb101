// The activity strip above a table's rows: when all jobs that match changed last: ended, or started, or were submitted
// (store/activity.py), the oldest left. A bar's height is the number of jobs, its colours are their states. Dragging over
// bars asks for the jobs of that time.

/** Fewer jobs than this are seen at a glance without it. */
const STRIP_LEAST = 12;

/** Heights of a bar (px) for one job and for the most; the lowest of a part that needs a look. */
const [BAR_LOW, BAR_HIGH, PART_LOW] = [4, 30, 3];

class Strip {
  constructor(table) {
    this.table = table;
    this.from = null;  // the bar where a drag began
    this.columns = [];
    this.bars = h("div", {class: "bars", role: "img",
      onpointerdown: (event) => this.down(event), onpointermove: (event) => this.move(event), onpointerup: (event) => this.up(event), onpointercancel: () => this.stop()});
    [this.since, this.until] = [h("span", {class: "edge"}), h("span", {class: "edge"})];
    this.all = h("button", {class: "btn quiet small", title: "Show jobs of all times", text: "All times", onclick: () => table.box.ask(withoutTime(table.model.get("search")))});
    this.el = h("div", {class: "activity", hidden: true}, this.bars, h("div", {class: "edges"}, this.since, this.all, this.until));
  }

  /** Show it if there is enough to see; before the first counts arrive it keeps its place. */
  show() {
    const {table} = this, search = table.model.get("search") || "";
    this.all.hidden = !searchWords(search).some((word) => TIME_WORD.test(word));
    this.el.hidden = Boolean(table.model.get("problem")) || this.all.hidden && ((table.total ?? this.columns.length) < STRIP_LEAST || this.data?.columns.length === 0 || table.isArchive());
  }

  told() {
    this.data = parse(this.table.model.get("activity"), null);
    if (this.data && this.from == null) this.draw();
    this.show();
  }

  draw() {
    const {bars, data} = this, sum = (counts) => counts.reduce((one, two) => one + two, 0);
    this.columns = data.columns.map(([start, end, ...counts]) => ({start, end, counts, count: sum(counts), isFold: !counts.length}));
    const scale = Math.log10(1 + Math.max(1, ...this.columns.map(({count}) => count)));
    while (bars.childElementCount > this.columns.length) bars.lastChild.remove();
    while (bars.childElementCount < this.columns.length) bars.append(h("i"));
    this.columns.forEach(({start, end, counts, count, isFold}, i) => {
      const bar = bars.children[i], height = count && BAR_LOW + (BAR_HIGH - BAR_LOW) * Math.log10(1 + count) / scale;
      let top = 0;
      const tops = counts.slice(0, 3).map((part) => { top += part && Math.max(PART_LOW, height * part / count); return `${Math.min(height, top)}px`; });
      bar.className = isFold ? "fold" : "";
      bar.style.cssText = isFold ? "" : `height: ${height}px; --failed: ${tops[0]}; --running: ${tops[1]}; --waiting: ${tops[2]}`;
      const span = timeTexts(start, end).filter(Boolean).join(" – ");
      bar.title = isFold ? `No jobs: ${span}` : `${span}\n${this.words(count, counts)}`;
    });
    const parts = [0, 1, 2].map((part) => sum(this.columns.map(({counts}) => counts[part] || 0))), part = data.searched == null ? "" : `the newest ${number(data.searched)} so far`;
    this.edges(data.first, data.last);
    bars.setAttribute("aria-label", dotted(this.words(data.total, parts), data.total && `from ${this.since.textContent} to ${this.until.textContent || this.since.textContent}`, part));
    bars.title = part || "Drag to see the jobs of that time";
  }

  words(count, [failed, running, waiting]) { return dotted(many(count, "job"), failed && `${number(failed)} failed`, running && `${number(running)} running`, waiting && `${number(waiting)} waiting`); }

  edges(from, to) {
    const [since, until] = from ? timeTexts(from, to) : ["", ""];
    put(this.since, since);
    put(this.until, until);
  }

  // -- dragging ------------------------------------------------------------------------------------------------------

  /** The bar at or nearest to the pointer. */
  at({clientX}) {
    const {left, width} = this.bars.getBoundingClientRect();
    return Math.max(0, Math.min(this.columns.length - 1, Math.floor((clientX - left) / width * this.columns.length)));
  }

  down(event) {
    if (event.button || !this.columns.length) return;
    event.preventDefault();
    this.bars.setPointerCapture(event.pointerId);
    this.from = this.at(event);
    this.mark(event);
  }

  move(event) { if (this.from != null) this.mark(event); }

  mark(event) {
    const [low, high] = this.span(event);
    [...this.bars.children].forEach((bar, i) => bar.classList.toggle("out", i < low || i > high));
    this.edges(this.columns[low].start, this.columns[high].end);
  }

  up(event) {
    if (this.from == null) return;
    const {table} = this, [low, high] = this.span(event), time = timeWords(this.columns[low].start, this.columns[high].end);
    this.stop();
    table.box.ask([withoutTime(table.model.get("search")), time].filter(Boolean).join(" "));
  }

  span(event) {
    const to = this.at(event);
    return [Math.min(this.from, to), Math.max(this.from, to)];
  }

  stop() {
    this.from = null;
    for (const bar of this.bars.children) bar.classList.remove("out");
    this.told();
  }
}

/** Words of a search that say when jobs changed. */
const TIME_WORD = /^((age|older|newer|since|before|on):|(today|yesterday)$)/i;

/** A search text without what it says of time. */
function withoutTime(search) { return searchWords(search).filter((word) => !TIME_WORD.test(word)).join(" "); }

/** The words of a search for jobs that changed last between two times (ms), to the second, in local time. */
function timeWords(from, to) {
  const words = (seconds) => { const at = new Date(seconds * 1000); return `${at.getFullYear()}-${pad(at.getMonth() + 1)}-${pad(at.getDate())}T${clock(at).slice(0, 8)}`; };
  return `since:${words(Math.floor(from / 1000))} before:${words(Math.ceil(to / 1000))}`;
}

/** Two times (ms) in words that differ: with day, seconds and tenths if they are needed. The second is "" if both are one moment. */
function timeTexts(from, to) {
  const day = (at) => new Date(at).toLocaleDateString("en-GB", {day: "numeric", month: "short"}), isToday = [from, to].every((at) => day(at) === day(Date.now()));
  const length = to - from >= 120e3 ? 5 : to - from >= 2e3 ? 8 : 10;
  const [one, two] = [from, to].map((at) => `${isToday ? "" : `${day(at)} `}${clock(at).slice(0, length)}`);
  return [one, one === two ? "" : two];
}
