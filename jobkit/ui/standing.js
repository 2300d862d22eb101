// A sentence above every page (standing.py): the store takes no changes.

class Standing {
  constructor(model, el) {
    this.model = model;
    this.words = h("span");
    this.root = h("div", {class: "jk jk-standing", role: "status", hidden: true}, icon("warn"), this.words);
    el.append(this.root);
    this.stop = followTheme(this.root);
    model.on("change:text", () => this.show());
    this.show();
  }

  close() { this.stop(); }

  show() {
    const text = this.model.get("text");
    this.root.hidden = !text;
    put(this.words, text);
  }
}

export default {render: (props) => mount(props, (model, el) => new Standing(model, el))};
