// Pictures that a job shows while it runs (`jobkit.show`, `display()`): replaced in place when a newer one has come.

const PICTURE = "application/vnd.jobkit.picture+json";

/** The place among what `display()` and `plt.show()` have shown, which are numbered together. */
const placeOf = ({name}) => Number(name.match(/^show:(?:figure|output) (\d+)$/)?.[1] ?? 0);

class Pictures {
  constructor(model) {
    this.model = model;
    this.lines = new Map();
    this.list = h("div", {class: "shows"});
    this.root = h("section", {class: "pictures", "aria-label": "Pictures", hidden: true}, this.list);
  }

  show() {
    const files = parse(this.model.get("artifacts"), []).filter((file) => file.media_type === PICTURE).sort((a, b) => placeOf(a) - placeOf(b) || a.name.localeCompare(b.name, undefined, {numeric: true}));
    const items = files.map((file) => ({...file, id: file.name}));
    keyed(this.lines, this.list, items, "id", (file) => this.line(file));
    this.hideRepeated();
    this.want();
  }

  line(file) {
    const line = {shown: ""};
    line.title = h("h4", {text: file.name.slice(5)});
    line.box = h("div", {class: "shown"});
    line.el = h("figure", {class: "show"}, h("figcaption", null, line.title), line.box);
    return line;
  }

  /** Request what is new, one picture at a time: answers share one text of the model. */
  want() {
    if (this.asked) return;
    const line = [...this.lines.values()].find((each) => each.shown !== each.item.created_at);
    if (!line || !ask(this.model, "show", {name: line.item.name})) return;
    this.asked = {name: line.item.name, version: line.item.created_at};
    clearTimeout(this.timer);
    this.timer = setTimeout(() => { this.asked = null; this.want(); }, 8000);  // the answer was lost
  }

  /** The answer to one of the requests; true if it was one. */
  take(told) {
    const {asked} = this, line = [...this.lines.values()].find(({item}) => item.name === told.name);
    if (!line || told.action !== "show") return false;
    if (asked?.name === told.name) {
      line.shown = asked.version;
      this.asked = null;
      clearTimeout(this.timer);
    }
    if (told.preview) this.draw(line, told.preview);
    else if (!line.preview) line.box.replaceChildren(h("p", {class: "hint muted", text: told.problem || ""}));
    this.want();
    return true;
  }

  draw(line, preview) {
    line.preview = preview;
    let blocks;
    try {
      blocks = previewBlocks(preview, hostTheme(this.root) === "dark");
    } catch {  // a job may save anything under this media type
      blocks = [h("p", {class: "hint muted", text: "This is no picture."})];
    }
    if (preview.spec) blocks.push(h("button", {class: "btn quiet small", onclick: () => saveBlob(`${line.item.name.slice(5)}.json`, new Blob([JSON.stringify(preview.spec)], {type: "application/json"}))}, icon("download"), "Specification"));
    this.hideRepeated();
    line.box.style.minHeight = `${line.box.offsetHeight}px`;  // nothing below moves while the next one is drawn
    line.box.replaceChildren(...blocks);
    setTimeout(() => { line.box.style.minHeight = ""; }, 600);
  }

  /** Hide a figure that the job has shown and returned: the result is the same picture. */
  hideRepeated() {
    const png = parse(this.model.get("preview"), null)?.png;
    const lines = [...this.lines.values()];
    for (const {el, preview} of lines) el.hidden = Boolean(png) && preview?.png === png;
    this.root.hidden = lines.every(({el}) => el.hidden);
  }

  themed() {
    for (const line of this.lines.values()) if (line.preview?.bokeh) this.draw(line, line.preview);
  }
}
