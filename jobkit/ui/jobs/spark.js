// The small curve of a job's first metric in its row of the table; null is a gap.

/** Return the path of a small curve in a picture of 100 x 20. */
function sparkPath(values) {
  const known = values.filter((value) => value != null), low = Math.min(...known), high = Math.max(...known);
  let isDown = false;
  return values.map((value, i) => {
    if (value == null) { isDown = false; return ""; }
    const place = `${isDown ? "L" : "M"}${(values.length > 1 ? (100 * i) / (values.length - 1) : 50).toFixed(1)} ${(high > low ? 18 - (16 * (value - low)) / (high - low) : 10).toFixed(1)}`;
    const dot = isDown ? "" : "h0";
    isDown = true;
    return place + dot;
  }).join("");
}

/** Show it; `said` is the metric and its newest value. */
function showSpark(picture, values, said) {
  picture.toggleAttribute("hidden", !values);
  if (!values || !isNew(picture, [values, said])) return;
  picture.replaceChildren(svg("title", {}, said || ""), svg("path", {d: sparkPath(values)}));
  picture.setAttribute("aria-label", said || "");
}
