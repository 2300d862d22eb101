// One thing to say (component.py): as a page, or as a line above every page, which also says that no server answers.

class Notice {
  constructor(model, el) {
    this.saysAway = model.get("is_banner");
    this.root = h("section", {class: this.saysAway ? "jk jk-banner" : "jk jk-notice", role: "status"});
    el.append(this.root);
    this.close = followTheme(this.root);
    model.on("change:said", () => this.show(model.get("said"), model));
    this.show(model.get("said"), model);
  }

  show(said, model) {
    for (const old of [...this.root.children]) if (!old.matches(".away")) old.remove();
    if (!said) return;
    this.root.append(...(this.saysAway ? [h("div", {class: "refused"}, icon("warn"), h("span", {text: said}))]
      : [h("h2", {class: "big", text: said}), h("p", {class: "muted", text: model.get("more")}), ...model.get("lines").map((line) => h("p", null, h("code", {text: line})))]));
  }
}

export default {render: (props) => mount(props, (model, el) => new Notice(model, el))};
