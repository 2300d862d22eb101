// What the table of jobs shows while it has no rows.

/** Rows without content, until the first page comes. */
const ghostRows = () => Array.from({length: 8}, () => h("div", {class: "row ghost"}, h("span"), h("span"), h("span", {class: "name"}, h("i")), h("span", {class: "state"}, h("i")), h("span"), h("span"), h("span")));

/** No job matches the search, as far as all have been read. */
const nothingFound = (table, problem, waits) => [
  h("p", {class: "big", text: problem ? "This search is not understood" : waits ? "Still looking" : "No job matches"}),
  h("p", {class: "muted", text: waits ? "None among the newest jobs so far; the older ones are being read." : problem ? "" : table.hint}),
  h("p", null, h("button", {class: "btn", text: "Show all jobs", onclick: () => table.box.ask("")})),
];

/** There is no job at all. */
const firstSteps = (table) => [
  h("p", {class: "big", text: "No jobs yet"}),
  h("p", {class: "muted", text: "Submit one from a notebook or a script, and it shows up here at once:"}),
  codeBlock('import jobkit\n\njob = jobkit.connect().submit(sum, [1, 2, 3])\njob.result()'),
  h("p", {class: "muted"}, "or ", h("button", {class: "btn primary", text: "Start a task", onclick: () => ask(table.model, "open-submit")})),
];
