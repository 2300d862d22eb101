// The charts below the timeline's lanes: jobs that ended, queues, load, and the times of each task.

function showCharts(head) {
  const told = parse(head.model.get("series"), null);
  if (!told || !head.sources || told.range !== head.model.get("range")) return;
  const {edges} = told, steps = edges.slice(1).map((_, i) => i), side = {left: (i) => toAxis(edges[i]), right: (i) => toAxis(edges[i + 1])};
  const upTo = (n) => (i) => ENDS.slice(0, n).reduce((sum, end) => sum + told[end][i], 0), all = upTo(ENDS.length);  // areas lie upon each other
  head.columns("ends", steps, {...side, ...Object.fromEntries([0, ...ENDS].map((_, n) => [`to_${n}`, upTo(n)]))});
  for (const name of ["depth", "busy"]) head.columns(name, steps, {...side, top: (i) => told[name][i] ?? NaN});
  const top = (name, values) => head.set(head.get(`top-${name}`), {end: Math.max(1, ...values) * 1.12});
  top("ends", steps.map(all));
  top("depth", told.depth.map((value) => value ?? 0));
  top("busy", told.busy.map((value) => value ?? 0));
  const per = (edges[1] - edges[0]) / 1000;
  const narrow = head.gutter < 160;
  head.set(head.charts.ends.title, {text: narrow ? `Ended, per ${duration(per)}` : `Jobs that ended, per ${duration(per)} · green succeeded, red failed, grey cancelled`});
  head.set(head.charts.tasks.title, {text: narrow ? "Waited (grey), ran · box: half, dot: median" : `How long attempts waited (grey) and ran · box: the middle half · dot: the median${head.root.clientWidth < 1080 ? "" : ", half took longer · line: all but the shortest and the longest tenth"}`});
  head.set(head.charts.busy.title, {text: told.slots ? `Attempts at once, of ${many(told.slots, "slot")}` : "Attempts at once"});
  const room = Math.floor((head.gutter - 16) / 6.6), names = laneNames(told.tasks.map(({task}) => head.titleOf(task)).map((title) => [title.length > room ? `${title.slice(0, room - 1)}…` : title, 0]), head.gutter);
  head.set(head.get("names"), {factors: [...names].reverse()});
  head.set(head.charts.tasks, {height: 60 + 34 * Math.max(1, names.length), visible: names.length > 0});
  const [grey, values] = [head.colour("line-strong"), []];
  for (const kind of ["waited", "ran"]) {
    const rows = told.tasks.map((each, i) => ({name: names[i], task: each.task, q: each[kind].map((value) => Math.max(0.001, value))})).filter(({q}) => q.length);
    values.push(...rows.flatMap(({q}) => q));
    const q = (i) => (row) => row.q[i];
    head.columns(`tasks-${kind}`, rows, {y: ({name}) => name, low: q(0), q1: q(1), mid: q(2), q3: q(3), high: q(4), fill: ({task}) => (kind === "waited" ? grey : head.hues[head.styleOf(task)[0]])});
  }
  head.set(head.get("seconds"), {start: Math.min(...values, 0.1) * 0.7, end: Math.max(...values, 1) * 1.5});
}
