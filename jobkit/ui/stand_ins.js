// Stand-ins for the modules of Bokeh that Panel's models are made of and that only its widgets and tables bring, see
// patch.py: each of their classes is a plain box.
{
  const {LayoutDOM, LayoutDOMView} = Bokeh.loader["models/layouts/layout_dom"];
  class StandIn extends LayoutDOM { static override() {} }  // it has none of the properties
  const others = {__esModule: true, default: ""};  // of a style sheet
  const classes = new Proxy({}, {get: (_, name) => others[name] ?? (String(name).endsWith("View") ? LayoutDOMView : StandIn)});
  const isMissing = (name) => { try { Bokeh.loader[name]; } catch { return true; } };
  const aliases = Object.fromEntries(MODULES.filter(isMissing).map((name) => [name, "jobkit-stand-ins"]));
  Bokeh.register_plugin({"jobkit-stand-ins": (_, module) => { module.exports = classes; }}, "jobkit-stand-ins", aliases);
  // Modules need no shim in the browsers that jobkit is for.
  window.importShim ??= Object.assign((url) => import(new URL(url, document.baseURI)), {addImportMap() {}});
}
