// The audit trail (page.py): one line per action, newest first.

const ACTS = {done: ["succeeded", "Succeeded"], partly: ["retrying", "In part"], failed: ["failed", "Failed"], refused: ["cancelled", "Refused"]};
const WAYS = {page: "on a page", http: "over HTTP", cli: "at the command line"};

class Audit extends FeedPage {
  build() {
    const {n, model} = this;
    n.table = new FeedTable([
      ["When", "when muted", ({at}) => h("span", {title: exact(at), "data-at": at})],
      ["Who", "", ({who, via, role}) => [h("b", {text: who || "no login"}), h("span", {class: "muted small way", text: ` ${WAYS[via] || via}${role ? `, as ${role}` : ""}`})]],
      ["What", "", (row) => this.what(row)],
      ["Outcome", "note", (row) => this.outcome(row)],
    ]);
    n.first = h("button", {class: "btn small", text: "Newest", onclick: () => ask(model, "first")});
    n.older = h("button", {class: "btn small", text: "Older", onclick: () => ask(model, "older", {before: this.data.more})});
    n.foot = h("div", {class: "foot", hidden: true}, n.first, n.older);
    return [h("p", {class: "sum", text: "Actions on pages, over HTTP and at the command line. The last 10,000 entries are kept, at most 2,000 per user."}), n.table.el, n.foot];
  }

  show({rows, more, first}) {
    const {n} = this;
    n.foot.hidden = first && !more;
    n.older.hidden = !more;
    n.first.hidden = first;
    n.table.el.hidden = !rows.length;
    n.table.show(rows);
    this.showEmpty(!rows.length, "", "No actions yet.");
  }

  what({action, on, targets, count}) {
    const words = action.replaceAll("_", " "), isMany = count !== 1, shown = targets.slice(0, isMany ? 3 : 1), rest = count - shown.length;
    return [`${words} `, h("span", {class: "muted", text: isMany ? `${number(count)} ${on}s` : words.endsWith(on) ? "" : on}), " ",
      ...shown.flatMap((target) => [on === "job" ? this.link(target) : h("span", {class: "mono", text: target}), " "]),
      isMany && shown.length > 0 && rest > 0 && h("span", {class: "muted", text: `and ${number(rest)} more`})];
  }

  outcome({outcome, times, since, note}) {
    const [face, word] = ACTS[outcome] || ["queued", outcome], said = outcome === "done" ? "" : note;
    return [h("span", {class: "chip small", "data-face": face}, icon(face), word),
      times > 1 && h("span", {class: "muted", title: `since ${exact(since)}`, text: `${number(times)} times${said ? ": " : ""}`}), said && h("span", {class: "muted", text: said})];
  }
}

export default {render: (props) => mount(props, (model, el) => new Audit(model, el, "Audit"))};
