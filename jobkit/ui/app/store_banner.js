// A sentence above every page (store_banner.py): the store takes no changes, or the server does not answer.

class StoreBanner {
  saysAway = true;

  constructor(model, el) {
    this.model = model;
    this.words = h("span");
    this.line = h("div", {class: "refused", role: "status", hidden: true}, icon("warn"), this.words);
    this.root = h("div", {class: "jk jk-banner"}, this.line);
    el.append(this.root);
    this.stop = followTheme(this.root);
    model.on("change:text", () => this.show());
    this.show();
  }

  close() { this.stop(); }

  show() {
    const text = this.model.get("text");
    this.line.hidden = !text;
    put(this.words, text);
  }
}

export default {render: (props) => mount(props, (model, el) => new StoreBanner(model, el))};
