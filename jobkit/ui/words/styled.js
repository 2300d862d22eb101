// In modules of a server (assets.py): a component that brings its sheets, made once for all places that show it.

function styled(texts, component) {
  const sheets = texts.map((text) => {
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(text);
    return sheet;
  });
  const made = {...component, render: (props) => {
    props.el.getRootNode().adoptedStyleSheets = sheets;
    return (made.wait || component.render)(props);  // of early.js
  }};
  return made;
}
