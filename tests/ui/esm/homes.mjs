// One card in each of its homes on one page; `feed` gives both the same texts and returns what each shows.

function listeners() {
  const all = {};
  return {
    on: (event, fn) => (all[event] ||= []).push(fn),
    off: () => {},
    tell: (event) => (all[event] || []).forEach((fn) => fn()),
  };
}

const frame = () => new Promise((done) => requestAnimationFrame(done));

export async function homes(source) {
  const {default: card} = await import(URL.createObjectURL(new Blob([source], {type: "text/javascript"})));
  const values = {actions: '["cancel"]'};
  const widget = {
    ...listeners(),
    get: (name) => values[name],
    set: (name, value) => { values[name] = value; },
    save_changes: () => {},
  };
  const proxy = {...listeners(), actions: '["cancel"]'};
  card.initialize({model: widget});
  card.render({model: widget, el: document.querySelector("#notebook")});
  card.render({view: {model_proxy: proxy, container: document.querySelector("#panel")}});

  return async (texts) => {
    Object.assign(values, texts);
    Object.assign(proxy, texts);
    for (const name of Object.keys(texts)) {
      widget.tell(`change:${name}`);
      proxy.tell(`change:${name}`);
    }
    await frame();
    await frame();
    return ["#notebook", "#panel"].map((id) => document.querySelector(id).innerHTML);
  };
}
