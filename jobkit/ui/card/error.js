// What is said of an error: type and message, the place, the user's frames with the library's folded, root cause first.
// `chain` is made by trace.py.

function errorParts(error, chain) {
  const copy = h("button", {class: "btn quiet small", title: "Copy the traceback", onclick: () => copyText(error.traceback || `${error.type}: ${error.message}`, copy)}, icon("copy"), "Copy");
  const said = h("p", null, h("b", {class: "mono", text: error.type}), error.message ? ` ${error.message}` : "");
  const parts = [h("div", {class: "failure-head"}, said, copy), unfolder(said)];
  const isPlaced = chain.some(({frames}) => frames.some(({place, is_library: isLibrary}) => !isLibrary && place === error.where));
  if (error.where && !isPlaced) parts.push(h("p", {class: "where mono muted", text: error.where}));
  for (const raised of chain) {
    if (raised.lead) parts.push(h("p", {class: "cause"}, h("span", {class: "muted", text: `${raised.lead} `}), h("span", {class: "mono", text: raised.headline})));
    if (raised.notes) parts.push(h("pre", {class: "notes mono muted", text: raised.notes}));
    const frames = h("div", {class: "frames mono"}), failing = raised.frames.findLast((frame) => !frame.is_library);
    let folded = [];
    const flush = () => {
      if (!folded.length) return;
      const count = folded.reduce((sum, frame) => sum + frame.count, 0);
      frames.append(h("details", null, h("summary", {class: "muted", text: many(count, "library frame")}), folded.map((frame) => errorFrame(frame))));
      folded = [];
    };
    for (const frame of raised.frames) {
      if (frame.is_library) folded.push(frame);
      else {
        flush();
        frames.append(errorFrame(frame, frame === failing));
      }
    }
    flush();
    if (raised.frames.length) parts.push(frames);
  }
  if (error.traceback && !chain.some((raised) => raised.frames.length)) parts.push(h("pre", {class: "mono trace", text: error.traceback}));
  else if (error.traceback) parts.push(h("details", {class: "full"}, h("summary", {class: "muted", text: "Full traceback"}), h("pre", {class: "mono trace", text: error.traceback})));
  return parts;
}

/** A button that shows all of a text; there is none while the text has no more lines than are shown. */
function unfolder(text) {
  text.classList.add("folded");
  const more = h("button", {class: "btn quiet small more", text: "Whole message", hidden: true, onclick: () => { text.classList.remove("folded"); more.remove(); }});
  new ResizeObserver(() => { more.hidden = text.scrollHeight <= text.clientHeight; }).observe(text);
  return more;
}

/** One frame, with the lines around its own, each with its number, if they are known. */
function errorFrame(frame, isFailing = false) {
  const at = frame.place.match(/(\d+)(?= in |$)/)?.[1], times = frame.count > 1 ? ` · ${number(frame.count)} times` : "";
  const lines = frame.source.split("\n").map((line) => line.split("\t")).filter(([n]) => n);
  const code = lines.length ? h("div", {class: "source"}, lines.map(([n, ...text]) => h("code", {class: n === at ? "at" : ""}, h("span", {class: "n", text: n}), h("span", {text: text.join("\t") || " "})))) : frame.code && h("code", {text: frame.code});
  return h("div", {class: `frame${isFailing ? " failing" : ""}${lines.length ? " seen" : ""}`}, h("span", {class: "place muted", text: frame.place + times, title: frame.file}), code);
}
