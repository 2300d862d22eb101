// A page that has one thing to say, and what may be done about it (notice.py).

class Notice {
  constructor(model, el) {
    const lines = model.get("lines");
    this.root = h("section", {class: "jk jk-notice", role: "status"}, h("h1", {class: "big", text: model.get("said")}),
      h("p", {class: "muted", text: model.get("more")}), lines.map((line) => h("p", null, h("code", {text: line}))));
    el.append(this.root);
    this.stop = followTheme(this.root);
  }

  close() { this.stop(); }
}

export default {render: (props) => mount(props, (model, el) => new Notice(model, el))};
