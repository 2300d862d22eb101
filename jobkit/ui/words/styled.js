// In modules of a server (assets.py): a component that brings its sheets, made once for all places that show it.

function styled(texts, component) {
  const sheets = texts.map((text) => {
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(text);
    return sheet;
  });
  return {...component, render: (props) => {
    props.el.getRootNode().adoptedStyleSheets = sheets;
    return component.render(props);
  }};
}
