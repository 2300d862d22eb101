// Units of timeline_lanes.js, under node's own test runner; test_bars.py starts it.
import assert from "node:assert/strict";
import {test} from "node:test";

const {arrangeLanes, fromAxis, laneBlocks, laneLabel, laneRows, mixed, toAxis} = await import(process.env.JOBKIT_LANES);

test("narrow bars become a block with a count, and what failed stands apart", () => {
  const bars = [0, 10, 20, 30, 40].map((start, i) => ({start, end: start + 9, outcome: i === 3 ? "failed" : "succeeded", lane: ["w", 0], task: "a", name: "a"}));
  const at = () => "w", made = laneBlocks([...bars, {start: 1000, end: 9000, outcome: "failed", lane: ["w", 0], task: "a", name: "a long run"}], at, 9000, 0.1);
  assert.deepEqual(made.map((each) => [each.bars.length, each.failed]), [[3, false], [1, true], [1, false], [1, true]]);
  assert.deepEqual(made.map((each) => laneLabel(each, 0.1)), ["", "", "", "a long run"]);
  assert.equal(laneLabel(made[3], 0.01, 12), "a long…");  // beside a texture
});

test("the attempts of a job share one lane of its task, which others get afterwards", () => {
  const bar = (start, end, task, more) => ({start, end, task, worker: "w", slot: 0, batch: "", ...more});
  const jobs = [[bar(0, 10, "a", {worker: "v"}), bar(20, 30, "a")], [bar(5, 8, "a")], [bar(12, 13, "a")], [bar(31, null, "a")], [bar(0, 5, "b", {batch: "x"})]];
  arrangeLanes(jobs, "task");
  assert.deepEqual(jobs.flat().map(({lane}) => lane), [["a", 0], ["a", 0], ["a", 1], ["a", 1], ["a", 0], ["b", 0]]);
  assert.deepEqual(laneRows(jobs.flat(), "task"), [["a", 0], ["a", 1], ["b", 0]]);
  arrangeLanes(jobs, "batch");
  assert.deepEqual(laneRows(jobs.flat(), "batch"), [["x", 0], ["no batch", 0], ["no batch", 1]]);
  arrangeLanes(jobs, "worker");
  assert.deepEqual(laneRows(jobs.flat(), "worker"), [["v", 0], ["w", 0]]);
});

test("all tasks have lanes, of which the largest give some away", () => {
  const bar = (start, end, task) => ({start, end, task, worker: "w", slot: 0, batch: ""});
  const jobs = Array.from({length: 50}, (_, i) => [bar(0, 9, `t${i}`)]).concat(Array.from({length: 40}, (_, i) => [bar(i, 99, "large")]));
  arrangeLanes(jobs, "task");
  const rows = laneRows(jobs.flat(), "task");
  assert.equal(rows.length, 60);
  assert.deepEqual(rows[9], ["large", 9]);
  assert.deepEqual(jobs.slice(50).map(([{isShared}]) => isShared).filter(Boolean).length, 30);
});

test("a paler colour lies between a colour and the ground", () => {
  assert.equal(mixed("#000000", "#ffffff", 0.25), "#bfbfbf");
});

test("an axis has the local time of each moment, before and after a change to summer time", () => {
  process.env.TZ = "Europe/Berlin";
  const winter = Date.UTC(2026, 2, 28, 12), summer = Date.UTC(2026, 2, 29, 12);
  assert.deepEqual([winter, summer].map((ms) => new Date(toAxis(ms)).getUTCHours()), [13, 14]);
  const change = Date.UTC(2026, 2, 29, 1), back = Date.UTC(2026, 9, 25, 1);
  for (const ms of [winter, summer, change - 1, change, back - 2 * 3600e3, back + 3600e3]) assert.equal(fromAxis(toAxis(ms)), ms);
});
