// What made jobs differ from the first one (batch_page.py): a line for each group of jobs.

class Differences {
  constructor(model, el) {
    const lines = model.get("lines");
    this.root = h("details", {class: "jk jk-differences", open: true},
      h("summary", {text: "Made differently than the first job"}), h("ul", null, lines.map((line) => h("li", {text: line}))));
    el.append(this.root);
    this.close = followTheme(this.root);
  }
}

export default {render: (props) => mount(props, (model, el) => new Differences(model, el))};
