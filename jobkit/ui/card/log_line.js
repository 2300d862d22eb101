// One line of a log with its colours, and what stands between the lines of two attempts: for cards and for the log's page.

const LEVELS = {DEBUG: "DEBUG", INFO: "INFO", WARNING: "WARN", ERROR: "ERROR", CRITICAL: "CRIT"};
const SOURCES = {stderr: "err", warning: "err", jobkit: "own"};

/** The row of a line. `link` has attributes that make its number a link, `words` is what a search looks for (lower case), and
 *  `start` is the moment (ms) from which its time counts, instead of the time of day. */
function logLine(line, {link = null, words = "", start = null} = {}) {
  const source = SOURCES[line.source], at = Date.parse(line.at), time = at > 0 ? (start == null ? clock(line.at) : sinceStart(at - start)) : "";
  return h("div", {class: source ? `line ${source}` : "line", "data-n": line.n, "data-level": line.level || false, title: line.logger || false},
    h(link ? "a" : "span", {class: "num", text: line.n, ...link}), h("time", {text: time, title: at > 0 && exact(line.at)}),
    h("span", {class: "level", text: LEVELS[line.level] || {warning: "WARN", stderr: "err"}[line.source] || "", title: line.source === "stderr" && "Standard error"}),
    h("span", {class: "text"}, styledText(line, words)));
}

/** `+4.9 s`; what a clock before the start says counts from zero. */
const sinceStart = (ms) => `+${duration(Math.max(0, ms) / 1000)}`;

/** The text of a line as nodes: its parts as `LogLine` in Python found them, each with its style, and hits of a search marked. */
function styledText(line, words) {
  const parts = line.parts || [[line.text]], cuts = hitsIn(line.text, words), out = [];
  let at = 0;
  for (const [text, flags, color, background] of parts) {
    const span = flags == null ? null : h("span", {class: flags || false});
    if (color) span.style.color = color;
    if (background) span.style.backgroundColor = background;
    const into = span ? [] : out;
    for (let from = 0; from < text.length;) {
      const hit = cuts.find(([, end]) => end > at + from), inside = hit && hit[0] <= at + from;
      const to = Math.min(text.length, hit ? (inside ? hit[1] : hit[0]) - at : text.length), piece = text.slice(from, to);
      into.push(inside ? h("mark", {text: piece}) : piece);
      from = to;
    }
    if (span) { span.append(...into); out.push(span); }
    at += text.length;
  }
  return out;
}

/** Return the places of `words` in a text: pairs of start and end. */
function hitsIn(text, words) {
  const found = [], low = words ? text.toLowerCase() : "";
  for (let at = low.indexOf(words); words && at >= 0 && found.length < 1000; at = low.indexOf(words, at + words.length)) found.push([at, at + words.length]);
  return found;
}

/** Rows for the attempts that begin between two lines (`before` is null for the first): `attempt 2, 14:03:10 on gpu-1`.
 *  Lines have the worker's clock and attempts the store's: what lies between two attempts is shared equally. */
function attemptRows(attempts, before, line) {
  if (attempts.length < 2 || !(Date.parse(line.at) > 0)) return [];
  const at = Date.parse(line.at), from = before ? Date.parse(before.at) : -Infinity;
  const begun = attempts.filter((attempt, i) => {
    const started = Date.parse(attempt.started_at), ended = i && Date.parse(attempts[i - 1].ended_at);
    const moment = ended ? (started + ended) / 2 : started;
    return (moment > from || !before) && moment <= at;
  });
  return begun.slice(before ? 0 : -1).map((attempt) => h("div", {class: "attempt muted", title: exact(attempt.started_at),
    text: `attempt ${attempt.number}, ${clock(attempt.started_at).slice(0, 8)}${attempt.worker ? ` on ${attempt.worker}` : ""}`}));
}

/** Return the severity of a line: 1 info, 2 warning, 3 error; 0 for what was only printed. Twin of `LogFilter.takes`. */
function weight({level, source}) {
  if (level) return {INFO: 1, WARNING: 2, ERROR: 3, CRITICAL: 3}[level] || 0;
  return {jobkit: 1, stderr: 2, warning: 2}[source] || 0;
}
