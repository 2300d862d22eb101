// The lines of a log by their place in a list (log_reader.js), under node's test runner.

import assert from "node:assert/strict";
import test from "node:test";

const {LogReader} = await import(process.env.JOBKIT_LOG);

function reader() {
  const sent = [], changes = [];
  const made = new LogReader((asked) => { sent.push(asked); return true; }, () => changes.push(1));
  const answer = (lines, more) => made.take({name: sent.at(-1).name, lines: lines.map((n) => ({n, text: `line ${n}`})), ...more});
  return {made, sent, changes, answer};
}

const range = (from, to) => Array.from({length: to - from + 1}, (_, i) => from + i);

test("dropped lines take no place in the list", () => {
  const {made, sent, answer} = reader();
  made.tail();
  assert.equal(sent[0].after, undefined);
  answer(range(9501, 10000), {total: 10000, dropped: 8000, gap_after: 1000});
  assert.deepEqual([made.count, made.numberAt(999), made.numberAt(1000), made.numberAt(1999)], [2000, 1000, 9001, 10000]);
  assert.deepEqual([made.placeOf(1000), made.placeOf(5000), made.placeOf(9001)], [999, 1000, 1000]);
  assert.equal(made.at(1999).text, "line 10000");
  made.need(990, 1010);
  assert.equal(sent[1].after, 500);
  answer([...range(501, 1000)], {total: 10000, dropped: 8000, gap_after: 1000});
  made.need(990, 1010);
  assert.equal(sent[2].after, 9000);
});

test("a line that is not kept any more is asked for once", () => {
  const {made, sent, answer} = reader();
  made.tail();
  answer([], {total: 100, dropped: 0, gap_after: 0});
  made.need(10, 20);
  answer(range(30, 100), {total: 100, dropped: 0, gap_after: 0});
  assert.equal(made.at(10).text, "not kept any more");
  made.need(10, 11);
  assert.equal(sent.length, 2);
});

test("lines of a level are asked for from the first one that is missing", () => {
  const {made, sent, answer} = reader();
  made.tail();
  answer([1000], {total: 1000, dropped: 0, gap_after: 0});
  made.narrow("error");
  assert.equal(made.count, 0);
  made.numbers = [7, 70, 700];
  assert.deepEqual([made.count, made.numberAt(1), made.placeOf(8)], [3, 70, 1]);
  made.need(1, 3);
  assert.deepEqual([sent[1].after, sent[1].level], [69, ""]);  // near them, and not by a search of the whole log
});

test("a log whose lines have got other numbers is read anew", () => {
  const {made, sent, answer} = reader();
  let told = 0;
  made.renumbered = () => { told += 1; };
  made.tail();
  answer([100], {total: 100, dropped: 0, gap_after: 0, is_whole: false});
  made.tail();
  assert.deepEqual([sent[1].after, sent[1].newest], [100, true]);
  answer([5000], {total: 5000, dropped: 0, gap_after: 0, is_whole: true});
  assert.deepEqual([made.count, sent[2].after, told], [0, undefined, 1]);
  answer([5000], {total: 5000, dropped: 0, gap_after: 0, is_whole: true});
  assert.deepEqual([made.count, made.at(4999).text], [5000, "line 5000"]);
});

test("an answer to an earlier question changes nothing", () => {
  const {made, sent, changes} = reader();
  made.tail();
  assert.equal(made.take({name: "0", lines: [], total: 5, dropped: 0, gap_after: 0}), false);
  assert.deepEqual([made.total, changes.length, sent.length], [0, 0, 1]);
});

test("an answer is taken however late it comes, and its question is repeated meanwhile", (context) => {
  context.mock.timers.enable({apis: ["setTimeout", "Date"]});
  const {made, sent, answer} = reader();
  made.tail();
  for (let i = 0; i < 5; i++) { context.mock.timers.tick(4200); made.tail(); made.need(0, 10); }
  assert.ok(sent.length > 3);
  assert.deepEqual(new Set(sent.map(({name}) => name)).size, 1);
  answer([1], {total: 1, dropped: 0, gap_after: 0});
  assert.equal(made.at(0).text, "line 1");
});
