// The importance of the parameters of a led batch: a bar for each. assets.py puts it in front of batch.js.

function importance() {
  return h("section", {class: "importance", "aria-label": "Importance of parameters", hidden: true},
    h("header", {class: "strip"}, h("h4", {text: "Importance"})), h("dl"));
}

/** `shares`: name and share (0..1) of each parameter, the largest first. */
function showImportance(el, shares) {
  el.hidden = !shares?.length;
  if (el.hidden || !isNew(el, shares)) return;
  el.lastChild.replaceChildren(...shares.flatMap(([name, share]) => [h("dt", {class: "mono", text: name, title: name}),
    h("dd", null, h("span", {class: "track"}, h("i", {style: `width:${100 * share}%`})), h("b", {text: `${Math.round(100 * share)} %`}))]));
}
