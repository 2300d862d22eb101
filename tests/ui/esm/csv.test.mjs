// Cells of a CSV file: nothing that a job has written is a formula where somebody opens it.
import assert from "node:assert/strict";
import test from "node:test";

const {csvCell, distinct} = await import(process.env.JOBKIT_CSV);

test("what begins like a formula is text, with quotes and commas as well", () => {
  assert.equal(csvCell('=HYPERLINK("http://x","y")'), `"'=HYPERLINK(""http://x"",""y"")"`);
  assert.equal(csvCell("=1+1"), "'=1+1");
  assert.equal(csvCell("+cmd"), "'+cmd");
  assert.equal(csvCell("-1+cmd|' /C calc'!A0"), "'-1+cmd|' /C calc'!A0");
  assert.equal(csvCell("@SUM(1,2)"), `"'@SUM(1,2)"`);
  assert.equal(csvCell("\t=1"), "'\t=1");
  assert.equal(csvCell("\r=1"), `"'\r=1"`);
  assert.equal(csvCell(";=1+1"), "';=1+1");
  assert.equal(csvCell(" =1+1"), "' =1+1");
  assert.equal(csvCell("\uFF1D1+1"), "'\uFF1D1+1");
});

test("numbers and other values stay as they are", () => {
  for (const value of [-1, -0.5, 1e-9, "-1", "-2.5e-3", "+4", "nan", "-inf"]) assert.equal(csvCell(value), String(value));
  assert.equal(csvCell(-Infinity), "-Infinity");
  assert.deepEqual([null, true, false, "a", 'b"c', "d,e"].map(csvCell), ["", "True", "False", "a", '"b""c"', '"d,e"']);
});

test("columns of one name are told apart", () => {
  assert.deepEqual(distinct(["lr", "state", "lr", "state", "lr"]), ["lr", "state", "lr (2)", "state (2)", "lr (2) (2)"]);
});
