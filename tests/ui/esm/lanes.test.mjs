// Units of timeline_lanes.js, under node's own test runner; tests/ui/test_esm.py starts it.
import assert from "node:assert/strict";
import {test} from "node:test";

const {laneBlocks, laneLabel} = await import(process.env.JOBKIT_LANES);

test("narrow bars become a block with a count, and what failed stands apart", () => {
  const bars = [0, 10, 20, 30, 40].map((start, i) => ({start, end: start + 9, outcome: i === 3 ? "failed" : "succeeded", slot: 0, name: "a"}));
  const at = () => "w", made = laneBlocks([...bars, {start: 1000, end: 9000, outcome: "failed", slot: 0, name: "a long run"}], at, 9000, 0.1);
  assert.deepEqual(made.map((each) => [each.bars.length, each.failed]), [[3, false], [1, true], [1, false], [1, true]]);
  assert.deepEqual(made.map((each) => laneLabel(each, 0.1)), ["", "", "", "a long run"]);
});
