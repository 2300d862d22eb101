// Parallel coordinates of a batch: an axis for each argument and number, a line for each job with results.

const LINES_MOST = 1500, HEIGHT = 220, TOP = 26, SIDE = 40;

/** Return the axes and lines of rows as an SVG, or null if there are not two axes. `columns`, `rows`: as of `BatchModel`. The
 *  second of `colours` is that of high values, or of the best tenth if there is a `direction`. */
function parallel(columns, rows, width, colours, direction) {
  const ended = rows.filter((row) => row[1] === "succeeded"), step = Math.max(1, Math.ceil(ended.length / LINES_MOST));
  const some = ended.filter((_, i) => i % step === 0);
  const axes = columns.map(([name, kind], c) => ({name, kind, c})).filter(({kind}) => kind === "arg" || kind === "value").map((axis) => scaleOf(axis, some)).filter(Boolean);
  if (axes.length < 2 || !some.length) return null;
  const x = (i) => SIDE + (i * (width - 2 * SIDE)) / (axes.length - 1), y = (share) => TOP + (1 - share) * HEIGHT;
  const last = axes.filter(({kind}) => kind === "value").at(-1) || axes.at(-1);
  const height = (row) => last.at(row[2][last.c]) * (direction === "minimize" ? -1 : 1);
  const bar = direction ? some.map(height).sort((a, b) => b - a)[Math.ceil(some.length / 10) - 1] : 0.5, isHigh = (row) => height(row) >= bar;
  // The high ones are above the others.
  const lines = [...some].sort((a, b) => isHigh(a) - isHigh(b)).map((row) => svg("polyline", {points: axes.map((axis, i) => `${x(i)},${y(axis.at(row[2][axis.c]))}`).join(" "), fill: "none",
    stroke: colours[Number(isHigh(row))], "stroke-opacity": isHigh(row) && direction ? 0.9 : some.length > 200 ? 0.25 : 0.6}, svg("title", {}, axes.map(({name, c}) => `${name}: ${row[2][c]}`).join("\n"))));
  const rules = axes.flatMap((axis, i) => [svg("line", {class: "rule", x1: x(i), x2: x(i), y1: TOP, y2: TOP + HEIGHT}),
    svg("text", {class: "name", x: x(i), y: 14, "text-anchor": "middle"}, axis.name.length > 16 ? `${axis.name.slice(0, 15)}…` : axis.name),
    ...axis.ends.map(([share, text]) => svg("text", {x: x(i) + (i === axes.length - 1 ? -5 : 5), "text-anchor": i === axes.length - 1 ? "end" : "start", y: y(share), dy: share ? "0.9em" : "-0.2em"}, text))]);
  return svg("svg", {width, height: HEIGHT + TOP + 12, role: "img", "aria-label": `Parallel coordinates of ${some.length} jobs`}, ...lines, ...rules);
}

/** An axis with `at(value)` (0..1), logarithmic over two decades or more, and what stands at its ends; null if all values are equal. */
function scaleOf(axis, rows) {
  const values = rows.map((row) => row[2][axis.c]).filter((value) => value != null && value !== "");
  if (values.length && values.every((value) => typeof value === "number")) {
    const low = values.reduce((a, b) => Math.min(a, b), Infinity), high = values.reduce((a, b) => Math.max(a, b), -Infinity);
    if (low === high) return null;
    const of = low > 0 && high / low >= 100 ? Math.log : Number;
    return {...axis, at: (value) => (typeof value === "number" ? (of(value) - of(low)) / (of(high) - of(low)) : 0), ends: [[0, number(low)], [1, number(high)]]};
  }
  const words = [...new Set(values.map(String))];
  if (words.length < 2 || words.length > 30) return null;
  return {...axis, at: (value) => Math.max(0, words.indexOf(String(value))) / (words.length - 1), ends: words.length > 8 ? [] : words.map((word, i) => [i / (words.length - 1), word.slice(0, 12)])};
}
