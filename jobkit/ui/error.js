// What is said of an error: type and message, the place, the user's frames with the library's folded, root cause first.
// `chain` is made by trace.py.

function errorParts(error, chain) {
  const copy = h("button", {class: "btn quiet small", title: "Copy the traceback", onclick: () => copyText(error.traceback || `${error.type}: ${error.message}`, copy)}, icon("copy"), "Copy");
  const parts = [h("div", {class: "failure-head"}, h("p", null, h("b", {class: "mono", text: error.type}), error.message ? ` ${error.message}` : ""), copy)];
  if (error.where) parts.push(h("p", {class: "where mono muted", text: error.where}));
  const deepest = chain.length ? chain[chain.length - 1] : null;
  chain.forEach((raised, i) => {
    const frames = h("div", {class: "frames mono"});
    let folded = [];
    const flush = () => {
      if (!folded.length) return;
      frames.append(h("details", null, h("summary", {class: "muted", text: `${folded.length} library frame${folded.length > 1 ? "s" : ""}`}), folded.map((f) => errorFrame(f, false))));
      folded = [];
    };
    const own = raised.frames.filter((f) => !f.library);
    for (const frame of raised.frames) {
      if (frame.library) folded.push(frame);
      else {
        flush();
        frames.append(errorFrame(frame, frame === own[own.length - 1]));
      }
    }
    flush();
    if (chain.length > 1) {
      const lead = i === 0 ? "Root cause" : "Then";
      parts.push(h("p", {class: "cause"}, h("span", {class: "muted", text: `${lead} `}), h("span", {class: "mono", text: raised.headline})));
    }
    if (raised.frames.length) parts.push(frames);
  });
  if (error.traceback && !(deepest && deepest.frames.length)) parts.push(h("pre", {class: "mono trace", text: error.traceback}));
  else if (error.traceback) parts.push(h("details", {class: "full"}, h("summary", {class: "muted", text: "Full traceback"}), h("pre", {class: "mono trace", text: error.traceback})));
  return parts;
}

function errorFrame(frame, isFailing) {
  return h("div", {class: isFailing ? "frame failing" : "frame"}, h("span", {class: "place muted", text: frame.place, title: frame.file}), frame.code && h("code", {text: frame.code}));
}
