// Makes the table of a saved batch sort, filter and save itself, where a page runs scripts; see card_html.py.
(function () {
  /* csv.js */
  const table = document.getElementById("NAME");
  if (!table || !table.tHead) return;
  const body = table.tBodies[0], rows = [...body.rows], heads = [...table.tHead.rows[0].cells];
  const value = (row, i) => row.cells[i].querySelector("data")?.value ?? row.cells[i].textContent;
  const bar = document.createElement("p"), find = document.createElement("input"), save = document.createElement("button");
  bar.className = "m";
  find.placeholder = "Filter";
  find.setAttribute("aria-label", "Filter the rows");
  save.textContent = "CSV";
  bar.append(find, save);
  table.parentNode.before(bar);
  find.oninput = () => rows.forEach((row) => { row.hidden = !row.textContent.toLowerCase().includes(find.value.toLowerCase()); });
  let sorted = -1, way = 1;
  heads.forEach((head, i) => {
    head.style.cursor = "pointer";
    head.onclick = () => {
      way = sorted === i ? -way : 1;
      sorted = i;
      body.append(...[...rows].sort((a, b) => {
        const x = value(a, i), y = value(b, i), p = Number(x), q = Number(y);
        return (x === "") - (y === "") || way * (Number.isNaN(p) || Number.isNaN(q) ? x.localeCompare(y) : p - q);
      }));
    };
  });
  save.onclick = () => {
    const lines = [heads.map((head) => csvCell(head.textContent)), ...[...body.rows].filter((row) => !row.hidden).map((row) => heads.map((_, i) => csvCell(value(row, i))))];
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([lines.map((line) => line.join(",")).join("\r\n")], {type: "text/csv"}));
    link.download = "jobs.csv";
    link.click();
  };
})();
