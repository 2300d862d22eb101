// The order of the jobs as a select, for windows that are too narrow for the table's headings.

/** `columns` are those of the table. `turn(order)` asks for an order. */
class SortSelect {
  constructor(columns, turn) {
    const down = {submitted: "Newest first", took: "Longest first", progress: "Furthest first"};
    const orders = [["", "Running first"], ...columns.map(([, word, by, first]) => [first + by, down[by] || `By ${(word || by).toLowerCase()}`])];
    this.el = h("select", {class: "sort", "aria-label": "Order", onchange: () => turn(this.el.value)}, orders.map(([value, text]) => h("option", {value, text})));
  }

  show(order) {
    const isListed = [...this.el.options].some(({value}) => value === order);
    this.el.value = isListed ? order : "";
  }
}
