// What may be shown of a result or an artifact, and the list of artifacts; assets.py puts it in front of card.js.
// Markup and figures of a result are drawn in a frame that can neither reach this page nor ask anything of any host.

/** The head of a frame's document: it may bring pictures and styles with it, and scripts if allowed, but makes no request. */
const sandbox = (scripts = "") => `<!doctype html><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data: blob:; font-src data:; style-src 'unsafe-inline'${scripts && `; script-src ${scripts}`}"><style>body{font:13px/18px system-ui,sans-serif;margin:8px}</style>`;

/** A frame for markup. Scripts run only where `scripts` names their sources, and never with this page's origin. */
function frame(title, html, scripts) {
  return h("iframe", {class: "sandbox", sandbox: scripts ? "allow-scripts" : "", referrerpolicy: "no-referrer", title, srcdoc: sandbox(scripts) + html});
}

/** Return the elements that show a result; see `jobkit.run.inside.shown_values`. The richest form wins, text is always there. */
function previewBlocks(preview, isDark = false) {
  const out = [], text = preview.text || "";
  if (preview.table) out.push(previewTable(preview.table));
  else if (typeof preview.png === "string" && /^[A-Za-z0-9+/=\s]+$/.test(preview.png)) {
    out.push(h("img", {class: "figure", alt: preview.type || "figure", src: `data:image/png;base64,${preview.png.replace(/\s/g, "")}`}));
  } else if (typeof preview.html === "string") {
    out.push(frame("Result", preview.html));
  } else if (preview.bokeh && preview.bokeh.item && (bokehScripts().length || !preview.picture)) out.push(figureOf(preview, isDark));
  else if (typeof preview.picture === "string" && preview.picture.startsWith("data:image/")) {
    out.push(h("img", {class: "figure", alt: "picture", src: preview.picture}));
  } else if (typeof preview.page === "string") {
    out.push(frame("Page", preview.page, "'unsafe-inline'"));
  } else if (preview.json !== null && typeof preview.json === "object") out.push(previewJson(preview.json));
  else if (text) out.push(h("pre", {class: text.length < 60 && !text.includes("\n") ? "mono value single" : "mono value", text}));
  for (const said of [preview.note, preview.unavailable]) if (said) out.push(h("p", {class: "hint muted", text: said}));
  return out;
}

/** The page's own BokehJS: its scripts, by the address that they came from; if `isWhole`, with the parts that the page has not loaded. */
function bokehScripts(isWhole) {
  const all = [...document.querySelectorAll("script[src]")].map((script) => script.src);
  const found = all.filter((src) => /\/bokeh(-(gl|widgets|tables|mathjax))?(\.min)?\.js(\?|$)/.test(src) || /\/bokeh(-(gl|widgets|tables|mathjax))?-\d[\w.]*\.min\.js/.test(src));
  const parts = isWhole && found[0] ? ["widgets", "tables"].filter((part) => !found.some((src) => src.includes(`/bokeh-${part}`))) : [];
  return [...found, ...parts.map((part) => found[0].replace(/\/bokeh((-\d[\w.]*?)?(\.min)?\.js).*$/, `/bokeh-${part}$1`))];
}

const DARK = {
  Figure: {background_fill_color: "#0f1216", border_fill_color: "#0f1216", outline_line_color: "#262e38"},
  Axis: {axis_line_color: "#566274", major_tick_line_color: "#566274", minor_tick_line_color: "#566274", major_label_text_color: "#94a3b8", axis_label_text_color: "#94a3b8"},
  Grid: {grid_line_color: "#262e38"},
  Title: {text_color: "#e6eaf0"},
  Legend: {label_text_color: "#e6eaf0", background_fill_color: "#161b22", border_line_color: "#262e38"},
  ColorBar: {major_label_text_color: "#94a3b8", title_text_color: "#94a3b8", background_fill_color: "#0f1216"},
};

/** A figure's document with our dark colours wherever its maker chose none. */
function darkened(value) {
  if (Array.isArray(value)) return value.map(darkened);
  if (value === null || typeof value !== "object") return value;
  const out = Object.fromEntries(Object.entries(value).map(([key, each]) => [key, darkened(each)]));
  if (out.type === "object" && typeof out.name === "string") {
    const name = out.name.endsWith("Axis") ? "Axis" : out.name === "Plot" || out.name === "GridPlot" ? "Figure" : out.name;
    if (Object.hasOwn(DARK, name)) out.attributes = {...DARK[name], ...out.attributes};
  }
  return out;
}

/** A Bokeh figure, drawn by BokehJS in a frame: a figure may hold scripts and markup of its author. */
function figureOf(preview, isDark, isWhole = false) {
  const {bokeh, text, type} = preview, scripts = bokehScripts(isWhole);
  if (!scripts.length) {
    return h("div", null, h("pre", {class: "mono value", text: text || type || "Bokeh figure"}),
      h("p", {class: "hint muted", text: "A Bokeh figure. This page has no BokehJS to draw it: job.result() gives the figure, and the dashboard shows it."}));
  }
  const json = JSON.stringify({...(isDark ? darkened(bokeh.item) : bokeh.item), target_id: null}).replace(/</g, "\\u003c");
  const origins = [...new Set(scripts.map((src) => new URL(src).origin))].join(" ");
  const ground = isDark ? "#0f1216" : "#ffffff";
  const code = `const item=${json},tell=(more)=>parent.postMessage({jobkit:"figure",height:document.getElementById("figure").offsetHeight,...more},"*");
Bokeh.embed.embed_item(item,"figure").then(()=>{const box=document.getElementById("figure");new ResizeObserver(()=>tell()).observe(box);tell()},(error)=>tell({problem:String(error)}));
addEventListener("error",(event)=>tell({problem:event.message}))`;
  const made = frame(text || "Figure", `<style>body{margin:0;background:${ground};overflow-x:auto;overflow-y:hidden;scrollbar-width:thin}#figure{padding:4px 0}</style><div id="figure"></div>${scripts.map((src) => `<script src="${new URL(src).href.replace(/"/g, "%22")}"></scr` + `ipt>`).join("")}<script>${code}</scr` + `ipt>`, `${origins} 'unsafe-inline'`);
  made.classList.add("drawn");
  const listen = (event) => {
    if (!made.isConnected) return removeEventListener("message", listen);
    if (event.source !== made.contentWindow || event.data?.jobkit !== "figure") return;
    const height = Number(event.data.height);
    if (height > 0) made.style.height = `${Math.min(Math.ceil(height), 900)}px`;
    if (!event.data.problem) return;
    if (!isWhole && String(event.data.problem).includes("could not resolve type")) made.replaceWith(figureOf(preview, isDark, true));
    else made.title = String(event.data.problem).slice(0, 300);
  };
  whenConnected(made, () => addEventListener("message", listen));
  return made;
}

/** A flat object of a few plain values reads as a list of facts, everything else as indented JSON. */
function previewJson(value) {
  const entries = Object.entries(value);
  const isPlain = (item) => item === null || ["string", "number", "boolean"].includes(typeof item);
  if (!Array.isArray(value) && entries.length && entries.length <= 20 && entries.every(([, item]) => isPlain(item))) {
    return h("dl", {class: "pairs"}, entries.flatMap(([key, item]) => [h("dt", {class: "muted", text: key}),
      h("dd", {text: typeof item === "number" ? figures(item) : String(item), title: typeof item === "number" ? item : false})]));
  }
  return h("pre", {class: "mono value", text: JSON.stringify(value, null, 2)});
}

/** A result's number: what was computed is not rounded as a progress is, only its noise is cut. */
function figures(value) {
  return Number.isInteger(value) ? number(value) : String(Number(value.toPrecision(9)));
}

function previewTable({columns = [], rows = [], shape}) {
  const looksNumeric = (cell) => cell === "" || cell == null || /^(nan|none|null|<na>|[-+]?(inf|\d[\d_,]*\.?\d*(e[-+]?\d+)?))$/i.test(String(cell));
  const numeric = columns.map((_, i) => rows.length > 0 && rows.every((row) => looksNumeric(row[i])));
  const table = h("table", null,
    h("thead", null, h("tr", null, columns.map((name, i) => h("th", {scope: "col", class: numeric[i] ? "num" : "", text: name})))),
    h("tbody", null, rows.map((row) => h("tr", null, columns.map((_, i) => h("td", {class: numeric[i] ? "num" : "", text: row[i] ?? "", title: String(row[i] ?? "").length > 40 ? row[i] : false}))))));
  const [tall, wide] = shape || [rows.length, columns.length];
  const more = [tall > rows.length && `${number(rows.length)} of ${number(tall)} rows`, wide > columns.length && `${number(columns.length)} of ${number(wide)} columns`].filter(Boolean).join(", ");
  return h("div", null, h("div", {class: "scroll", tabindex: 0, role: "region", "aria-label": "Result table"}, table), more && h("p", {class: "hint muted", text: more}));
}

const KINDS = [[/^image\//, "picture"], [/csv|parquet|excel|sheet/, "table"], [/html/, "page"], [/json/, "JSON"], [/^text\//, "text"], [/zip|tar|gzip/, "archive"]];

function kindOf(media) {
  const found = KINDS.find(([pattern]) => pattern.test(media));
  return found ? found[1] : media === "application/octet-stream" ? "file" : media.replace(/^application\/(x-)?/, "");
}

/** Small pictures are shown without being asked for; the first so many. */
const SHOWN_AT_ONCE = 2, SMALL = 300_000;

/** What a job saved: a list, each line with a look and a download. */
class Artifacts {
  constructor(model) {
    this.model = model;
    this.lines = new Map();
    this.count = h("span", {class: "muted"});
    this.list = h("ul", {class: "files"});
    this.root = h("section", {class: "artifacts", "aria-label": "Artifacts", hidden: true},
      h("header", {class: "strip"}, h("h4", {text: "Artifacts"}), this.count), this.list);
  }

  show(isEnded) {
    const text = this.model.get("artifacts"), key = `${isEnded}${text}`;
    if (this.shownKey === key) return;
    this.shownKey = key;
    const files = parse(text, []).filter((file) => file.media_type !== PICTURE);
    this.root.hidden = !files.length;
    put(this.count, files.length > 1 ? `${files.length}, ${bytes(files.reduce((sum, file) => sum + file.size_bytes, 0))}` : "");
    const items = files.map((file) => ({...file, id: `${file.name}\n${file.created_at}`}));
    const lines = keyed(this.lines, this.list, items, "id", (file) => this.line(file));
    if (!isEnded) return;
    lines.filter(({item}) => /^image\//.test(item.media_type) && item.size_bytes <= SMALL)
      .slice(0, SHOWN_AT_ONCE).forEach((line) => { if (!line.asked) this.look(line, true); });
  }

  line(file) {
    const line = {asked: ""};
    line.name = h("button", {class: "name mono", text: file.name, title: `${file.name}\n${file.media_type}\nsaved ${exact(file.created_at)}`, "aria-expanded": "false", onclick: () => this.look(line, line.shown.hidden)});
    line.save = h("button", {class: "btn quiet small", title: `Save ${file.name}`, "aria-label": `Save ${file.name}`, onclick: () => this.ask(line, "save")}, icon("download"));
    line.note = h("p", {class: "hint", role: "status", hidden: true});
    line.shown = h("div", {class: "shown", hidden: true});
    line.el = h("li", null, h("div", {class: "file"}, line.name, h("span", {class: "muted", text: kindOf(file.media_type)}), h("span", {class: "muted size", text: bytes(file.size_bytes)}), line.save), line.note, line.shown);
    return line;
  }

  look(line, open) {
    line.shown.hidden = !open;
    line.name.setAttribute("aria-expanded", String(open));
    if (open && line.asked !== "show") this.ask(line, "show");
  }

  ask(line, action) {
    if (action === "show") line.asked = "show";
    line.note.hidden = false;
    put(line.note, "Fetching…");
    ask(this.model, action, {name: line.item.name});
  }

  /** The answer to one of the requests. */
  take(told) {
    for (const line of this.lines.values()) {
      if (line.item.name !== told.name) continue;
      line.note.hidden = !told.problem;
      put(line.note, told.problem || "");
      if (told.action === "show" && told.preview) line.shown.replaceChildren(...previewBlocks(told.preview, hostTheme(this.root) === "dark"));
      if (told.problem) line.shown.hidden = true;
    }
    if (told.action === "save" && told.base64) saveFile(told.name, told);
  }
}
