// The questions of a job on its card (card_section.py): what the open one shows, the form for its answer, and the closed ones.

class Questions extends Fields {
  constructor(card) {
    super();
    this.card = card;
    this.model = card.model;
    const n = (this.n = {});
    n.since = h("span", {class: "muted since"});
    n.text = h("p", {class: "text"});
    n.problem = h("p", {class: "message problem", hidden: true});
    n.shown = h("div", {class: "shown"});
    n.fields = h("div", {class: "fields"});
    n.trouble = h("p", {class: "message trouble", role: "alert", hidden: true});
    n.submit = h("button", {class: "btn primary", type: "submit", title: "Ctrl+Enter", text: "Answer"});
    n.more = h("span", {class: "muted"});
    n.footer = h("footer", null, n.submit, n.more);
    this.root = h("form", {class: "question jk-fields", "aria-label": "Question", novalidate: true, autocomplete: "off", hidden: true, onsubmit: (event) => { event.preventDefault(); this.submit(); },
      onkeydown: (event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); this.submit(); } }},
      h("header", {class: "strip"}, h("h4", {text: "Question"}), n.since), n.text, n.problem, n.shown, n.fields, n.trouble, n.footer);
    n.toldTitle = h("summary");
    n.toldList = h("dl");
    this.below = unfolding(h("details", {class: "facts told", hidden: true}, n.toldTitle, n.toldList));
  }

  /** A new question; one that is shown already keeps what was typed. */
  show() {
    const n = this.n, asked = parse(this.model.get("sections"), {})?.questions, mayAnswer = parse(this.model.get("actions"), []).includes("answer");
    this.showClosed(asked?.told || []);
    this.asked = asked?.key ? asked : null;
    this.root.hidden = !this.asked;
    put(n.more, asked?.more ? `${many(asked.more, "more question")}` : "");
    if (!isNew(this.root, [asked?.key, mayAnswer, asked?.unavailable]) || !this.asked) return;
    this.prefix = `q-${asked.key.replace(/\W/g, "-")}`;
    this.fields.clear();
    this.groups.clear();
    this.busy = false;
    put(n.text, asked.text);
    n.problem.hidden = !asked.problem && !asked.unavailable;
    put(n.problem, asked.unavailable || (asked.problem ? `The answer before was refused: ${asked.problem}` : ""));
    const params = mayAnswer && !asked.unavailable ? asked.params : [], isOne = asked.params?.length === 1;
    n.fields.replaceChildren(...params.map((spec) => this.field(isOne && spec.name === "answer" ? {...(spec.kind === "bool" && spec.required !== false ? {...spec, kind: "choice", choices: [["yes", true], ["no", false]], isBool: true} : spec), shown: "Answer"} : spec)));
    n.fields.hidden = n.footer.hidden = !params.length;
    n.trouble.hidden = true;
    this.themed();
    this.ready();
    this.tick();
  }

  themed() {
    const preview = this.asked?.shown, dark = this.card.root.dataset.theme === "dark", isFigure = Boolean(preview?.bokeh);
    if (!isNew(this.n.shown, [this.asked?.key, isFigure && dark])) return;
    const blocks = preview && Object.keys(preview).length ? previewBlocks(preview, dark) : [];
    this.n.shown.hidden = !blocks.length;
    this.n.shown.replaceChildren(...blocks);
  }

  tick() {
    if (!this.asked) return;
    const {card} = this, due = this.asked.due_at && card.since(this.asked.due_at);
    put(this.n.since, [`asked ${ago(card.since(this.asked.asked_at))}`, due && (due > 0 ? "too late now" : `closes ${ago(due)}`)].filter(Boolean).join(" · "));
  }

  changed() { this.mark(); }

  check(field) {
    if (!this.asked || !this.isChanged(field)) return this.error(field, "");
    ask(this.model, "check-answer", {key: this.asked.key, name: field.spec.name, field: field.read()});
  }

  submit() {
    if (!this.busy && this.asked) this.send("Answering…", "answer", {key: this.asked.key, fields: this.collect(this.asked.params)});
  }

  ready() {
    clearTimeout(this.busyTimer);
    this.busy = this.n.submit.disabled = false;
    put(this.n.submit, "Answer");
    this.mark();
  }

  /** Show the questions that were answered. */
  showClosed(told) {
    const n = this.n;
    this.below.hidden = !told.length;
    if (!isNew(n.toldList, told)) return;
    put(n.toldTitle, many(told.length, "question"));
    n.toldList.replaceChildren(...told.flatMap((each) => [h("dt", {class: "muted", text: each.text}),
      h("dd", {title: exact(each.at)}, each.is_late ? h("span", {class: "muted", text: `not answered in ${duration(each.waited_s)}`})
        : [h("span", {class: "mono", text: each.said}), h("span", {class: "muted", text: ` · ${[each.by, `after ${duration(each.waited_s)}`].filter(Boolean).join(", ")}`})])]));
  }

  /** The reply to a check or an answer. */
  replied() {
    const reply = parse(this.model.get("replied"), null);
    if (!reply || reply.key !== this.asked?.key) return;
    if (reply.is_check) {
      for (const [name, text] of Object.entries(reply.errors)) {
        const field = this.fields.get(name);
        if (field) this.error(field, this.isChanged(field) ? text : "");
      }
      return;
    }
    if (this.showErrors(reply.errors, this.n.trouble)) this.ready();
    else put(this.n.submit, "Answered");
  }
}

SECTIONS.push(Questions);
