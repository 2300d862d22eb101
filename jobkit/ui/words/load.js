// Small charts of the last minutes: what a worker, a job or a GPU uses (model/load.py).

/** A chart with its newest value: fill it by `showLoad`. */
function loadChart(name) {
  const n = {line: svg("path", {class: "curve"}), area: svg("path", {class: "under"}), value: h("span", {class: "newest"})};
  const picture = svg("svg", {viewBox: "0 0 59 35", preserveAspectRatio: "none", role: "img"}, n.area, n.line);
  n.picture = picture;
  return {n, el: h("span", {class: "load", hidden: true}, h("span", {class: "of", text: name}), picture, n.value)};
}

/** Draw `{last, top, shape}`, a point each `step_s` seconds; the newest one is at the right. Hidden without points. */
function showLoad({n, el}, spark, step_s, words) {
  const count = spark ? spark.shape.length : 0;
  el.hidden = !count;
  if (!count || !isNew(el, [spark, step_s])) return;
  const points = [...spark.shape].map((digit, i) => `${60 - count + i},${35 - parseInt(digit, 36)}`);
  if (count === 1) points.unshift(`58,${points[0].split(",")[1]}`);
  n.line.setAttribute("d", `M${points.join("L")}`);
  n.area.setAttribute("d", `M${points[0].split(",")[0]},35L${points.join("L")}L59,35Z`);
  put(n.value, words(spark.last));
  n.picture.setAttribute("aria-label", el.title = `The last ${duration(Math.round(count * step_s))}, up to ${words(spark.top)}`);
}

const inPercent = (value) => `${number(Math.round(value))} %`, inBytes = (mib) => bytes(mib * 1048576);
