// Values as cells of a CSV file.

/**
 * A cell that a spreadsheet takes for a number or a text, whatever a job has put into it: "=..." would be run there, also
 * after separators of other locales (";=1+1") and with full-width characters.
 */
function csvCell(value) {
  const text = value == null ? "" : value === true ? "True" : value === false ? "False" : String(value);
  const tame = /^[;\s]*[=+\-@\uFF1D\uFF0B\uFF0D\uFF20]|^[\t\r\n]/.test(text) && Number.isNaN(Number(text)) && text !== "-inf" ? `'${text}` : text;
  return /[",\n\r]/.test(tame) ? `"${tame.replace(/"/g, '""')}"` : tame;
}

/** Names of columns, all different, as in a batch's Parquet file: the second "state" is "state (2)". */
function distinct(names) {
  const found = new Set();
  for (let name of names) {
    while (found.has(name)) name += " (2)";
    found.add(name);
  }
  return [...found];
}

/** Save rows of values as a CSV file. */
function saveCsv(name, rows) {
  saveBlob(name, new Blob([rows.map((cells) => `${cells.map(csvCell).join(",")}\r\n`).join("")], {type: "text/csv"}));
}
