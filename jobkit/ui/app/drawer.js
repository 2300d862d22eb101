// The drawer's head (dashboard.py): close, and a link that can be sent. It closes before a form that it would cover, see drawer_frame.css.

export default {render: (props) => mount(props, (model, el) => {
  const link = h("button", {class: "btn quiet small", onclick: () => copyText(location.href, link)}, icon("copy"), "Copy link");
  const root = h("div", {class: "jk jk-drawer"},
    h("button", {class: "btn quiet small", title: "Close (Esc)", "aria-label": "Close", onclick: () => ask(model, "close")}, h("span", {class: "narrow"}, icon("back")), h("span", {class: "wide"}, icon("close")), "Close"),
    h("span", {class: "spring"}), link);
  const edit = () => ask(model, "edit", {covers: matchMedia("(max-width: 1024px)").matches}), unfollow = followTheme(root);
  addEventListener("jk-edit", edit);
  el.append(root);
  return {root, close: () => { unfollow(); removeEventListener("jk-edit", edit); }};
})};
