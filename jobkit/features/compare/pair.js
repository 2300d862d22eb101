// Two jobs side by side (pair.py): changes and outcome in a few words, then all facts by kind, code by lines, metrics over each other.

class Pair extends FeedPage {
  build() {
    const {n} = this;
    n.sides = [0, 1].map((i) => h("div", {class: "side"}));
    n.glance = h("div", {class: "glance", "aria-label": "What changed", role: "group"});
    n.body = h("div", {class: "parts"});
    n.charts = new Charts();
    n.csv = h("button", {class: "btn quiet small", title: "Save what differs as CSV", onclick: () => this.save()}, icon("download"), "CSV");
    n.whole = h("div", {class: "whole", hidden: true}, h("header", {class: "line sides"}, h("span", {class: "corner"}, n.csv), n.sides), n.glance, n.body);
    this.opened = new Set();
    return [n.whole];
  }

  show(data) {
    const n = this.n;
    this.showEmpty(Boolean(data.problem), "Nothing to compare", data.problem || "");
    n.whole.hidden = Boolean(data.problem);
    if (data.problem) return;
    data.sides.forEach((side, i) => this.showSide(n.sides[i], side, i));
    this.showGlance(data);
    if (!isNew(n.body, [data.sections, data.files, data.more_files])) return this.showCharts(data);
    const [outcome, ...causes] = data.sections;
    n.body.replaceChildren(this.section(outcome, data), n.charts.root, ...causes.map((each) => this.section(each, data)));
    this.showCharts(data);
  }

  showSide(el, {id, title, face, owner, submitted_at: at, worker}, i) {
    if (!isNew(el, [id, title, face, owner, at, worker])) return;
    el.replaceChildren(
      h("div", {class: "who"}, h("i", {class: "dot", style: `background:var(--jk-series-${i + 1})`}), h("span", {class: "chip small", "data-face": face}, icon(face), WORDS[face]), h("b", {text: title, title}), this.link(id)),
      h("div", {class: "muted small"}, "submitted ", h("span", {"data-at": at || "", title: at ? exact(at) : false}), owner && ` by ${owner}`, worker && ` · ${worker}`));
  }

  /** The answer in a few words: what differs, and how the outcome moved. */
  showGlance({changed, came}) {
    const n = this.n;
    if (!isNew(n.glance, [changed, came])) return;
    const tags = (facts, none) => (facts.length ? facts.map(([kind, text]) => h("button", {class: "fact", title: `Show ${kind.toLowerCase()}`, onclick: () => this.root.querySelector(`[data-name="${kind}"]`)?.scrollIntoView({block: "start", behavior: "smooth"})},
      h("span", {class: "muted", text: kind === "Outcome" ? "" : kind}), h("span", {text}))) : [h("span", {class: "muted", text: none})]);
    n.glance.replaceChildren(h("h3", {text: "What changed"}), h("div", {class: "facts"}, tags(changed, "Nothing that is known: arguments, code, packages, machine and options are equal.")),
      h("h3", {text: "Outcome"}), h("div", {class: "facts"}, tags(came, "Nothing differs.")));
  }

  section({name, rows, equal, note}, {files, more_files: more}) {
    const isCode = name === "Code", isOpen = this.opened.has(name), differ = rows.length + (isCode ? files.length : 0);
    if (!rows.length && !equal.length && !note && !(isCode && files.length)) return "";
    const row = ([label, old, fresh, change]) => h("div", {class: "line", role: "row"}, h("span", {class: "label", role: "rowheader", text: label}), this.cell(old, "old"), this.cell(fresh, "new"), h("span", {class: "change muted", role: "cell", text: change}));
    const folded = equal.length > 0 && h("details", {class: "equal", "data-name": name, open: isOpen, ontoggle: (event) => { if (event.target.open) this.opened.add(name); else this.opened.delete(name); }},
      h("summary", null, !differ && h("b", {text: name}), h("span", {class: "muted", text: differ ? many(equal.length, "equal fact") : note || `equal (${number(equal.length)})`})), h("div", {role: "table", "aria-label": `${name}, equal`}, equal.map(([label, old]) => h("div", {class: "line same", role: "row"}, h("span", {class: "label", role: "rowheader", text: label}), h("span", {class: "value one mono", role: "cell", text: old})))));
    if (!differ && folded) return folded;
    return h("section", {"data-name": name, "aria-label": name},
      h("h2", null, name, h("span", {class: "muted count", text: differ ? `${number(differ)} ${differ === 1 ? "differs" : "differ"}` : ""})),
      note && h("p", {class: "muted small"}, ...ticked(note)),
      rows.length > 0 && h("div", {role: "table", "aria-label": `${name}, different`}, rows.map((each) => row(each))),
      isCode && files.map((file) => this.file(file)), isCode && more > 0 && h("p", {class: "muted small", text: `and ${many(more, "more file")}`}), folded);
  }

  cell(text, side) { return h("span", {class: `value mono ${side}`, role: "cell", text: text || "none", title: text.length > 60 ? text : false, ...(text ? {} : {"data-none": true})}); }

  /** Lines of a file: changed runs side by side, or below each other if there is no room. */
  file([name, added, removed, note, lines]) {
    const blocks = [];
    for (const [mark, text] of lines) {
      const kind = mark === " " ? "same" : mark === "@" ? "gap" : "changed";
      if (blocks.at(-1)?.kind !== kind || kind === "gap") blocks.push({kind, old: [], new: []});
      const block = blocks.at(-1);
      if (mark !== "+") block.old.push(text);
      if (mark !== "-") block.new.push(text);
    }
    const half = (block, side, sign) => h("pre", {class: side}, block[side].map((text) => h("div", {"data-mark": block.kind === "changed" ? sign : " ", text: text || "\u200b"})));
    return h("details", {class: "file", open: true},
      h("summary", null, h("span", {class: "mono", text: name}), added > 0 && h("span", {class: "added", text: `+${number(added)}`}), removed > 0 && h("span", {class: "removed", text: `−${number(removed)}`}), note && h("span", {class: "muted", text: note})),
      lines.length > 0 && h("div", {class: "code", tabindex: 0, role: "group", "aria-label": `Lines of ${name}`}, blocks.map((block) => (block.kind === "gap" ? h("div", {class: "gap muted", text: "⋯"}) : h("div", {class: `block ${block.kind}`}, half(block, "old", "−"), half(block, "new", "+"))))));
  }

  showCharts({charts}) { this.n.charts.show(new Map(Object.entries(charts).map(([name, lines]) => [name, lines.map(([label, steps, values]) => ({label, steps, values}))]))); }

  save() {
    const {sections, sides, files} = this.data, rows = sections.flatMap(({name, rows: each}) => each.map((row) => [name, ...row]));
    const code = files.map(([name, added, removed]) => ["Code", name, "", "", `+${added} −${removed}`]);
    saveCsv(`compare-${sides.map(({id}) => id.slice(0, 8)).join("-")}.csv`, [["kind", "name", ...sides.map(({id}) => id), "change"], ...rows, ...code]);
  }
}

export default {render: (props) => mount(props, (model, el) => new Pair(model, el, "Pair"))};
