// The drawer's head (dashboard.py): close, and a link that can be sent.

export default {render: (props) => mount(props, (model, el) => {
  const link = h("button", {class: "btn quiet small", onclick: () => copyText(location.href, link)}, icon("copy"), "Copy link");
  const root = h("div", {class: "jk jk-drawer"},
    h("button", {class: "btn quiet small", title: "Close (Esc)", "aria-label": "Close", onclick: () => ask(model, "close")}, h("span", {class: "narrow"}, icon("back")), h("span", {class: "wide"}, icon("close")), "Close"),
    h("span", {class: "spring"}), link);
  el.append(root);
  return {root, close: followTheme(root)};
})};
