// Drawings of 16 px, for every component.

const SHAPES = {
  queued: [["circle", {cx: 8, cy: 8, r: 6, "stroke-dasharray": "2.2 2.5"}], ["circle", {cx: 8, cy: 8, r: 1, fill: "currentColor"}]],
  scheduled: [["circle", {cx: 8, cy: 8, r: 6}], ["path", {d: "M8 4.8V8l2.2 1.6"}]],
  running: [["circle", {cx: 8, cy: 8, r: 6, class: "faint"}], ["path", {d: "M8 2a6 6 0 0 1 6 6", class: "spin", "stroke-width": 2}]],
  retrying: [["path", {d: "M13.5 8a5.5 5.5 0 1 1-1.7-4"}], ["path", {d: "M13.4 1.6v3.1h-3.1"}]],
  succeeded: [["circle", {cx: 8, cy: 8, r: 6}], ["path", {d: "M5.4 8.2l1.9 1.9 3.4-3.9"}]],
  failed: [["circle", {cx: 8, cy: 8, r: 6}], ["path", {d: "M5.9 5.9l4.2 4.2M10.1 5.9l-4.2 4.2", "stroke-width": 1.9}]],
  cancelled: [["circle", {cx: 8, cy: 8, r: 6}], ["path", {d: "M5.2 8h5.6"}]],
  pruned: [["circle", {cx: 8, cy: 8, r: 6}], ["path", {d: "M5.4 6.2h5.2L8 10.6z"}]],
  copy: [["rect", {x: 5.5, y: 5.5, width: 8, height: 8, rx: 1.5}], ["path", {d: "M10.5 5.5v-2a1 1 0 0 0-1-1h-6a1 1 0 0 0-1 1v6a1 1 0 0 0 1 1h2"}]],
  check: [["path", {d: "M3.5 8.5l3 3 6-7"}]],
  close: [["path", {d: "M4 4l8 8M12 4l-8 8"}]],
  warn: [["path", {d: "M8 2.2L14.4 13.4H1.6z"}], ["path", {d: "M8 6.4v3.2M8 11.6v.1"}]],
  info: [["circle", {cx: 8, cy: 8, r: 6}], ["path", {d: "M8 7.4v3.4M8 5.1v.1"}]],
  bell: [["path", {d: "M3.5 11.5h9L11.3 9.8V7a3.3 3.3 0 0 0-6.6 0v2.8z"}], ["path", {d: "M6.8 13.4a1.3 1.3 0 0 0 2.4 0"}]],
  back: [["path", {d: "M10 3L5 8l5 5"}]],
  menu: [["path", {d: "M2.5 4.5h11M2.5 8h11M2.5 11.5h11"}]],
  theme: [["circle", {cx: 8, cy: 8, r: 6}], ["path", {d: "M8 2a6 6 0 0 1 0 12z", fill: "currentColor"}]],
  search: [["circle", {cx: 7, cy: 7, r: 4.4}], ["path", {d: "M10.4 10.4L14 14"}]],
  down: [["path", {d: "M8 3v9.5M4 8.8l4 4 4-4"}]],
  open: [["path", {d: "M6.5 3.5h-3v9h9v-3M9.5 3.5h3v3M12.3 3.7L7.5 8.5"}]],
  up: [["path", {d: "M8 13V3.5M4 7.2l4-4 4 4"}]],
  download: [["path", {d: "M8 2.5v7.5M4.8 7.2L8 10.4l3.2-3.2M3 13.5h10"}]],
};

/** An element of a drawing. */
function svg(tag, attributes, ...children) {
  const el = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) el.setAttribute(name, value);
  el.append(...children);
  return el;
}

/** A 16 px glyph; decoration only, the word stands beside it. */
function icon(name) {
  return svg("svg", {viewBox: "0 0 16 16", class: "icon", "aria-hidden": "true"}, ...(SHAPES[name] || SHAPES.info).map(([tag, attributes]) => svg(tag, attributes)));
}
