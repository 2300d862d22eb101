// Units of strip.js and search.js, under node's own test runner; tests/ui/test_esm.py starts it.
import assert from "node:assert/strict";
import {test} from "node:test";

const {SearchBox, timeTexts, timeWords, withoutTime} = await import(process.env.JOBKIT_STRIP);

test("the texts of two times differ, or are one", () => {
  const noon = new Date().setHours(12, 0, 0, 0);
  assert.deepEqual(timeTexts(noon, noon + 3600e3), ["12:00", "13:00"]);
  assert.deepEqual(timeTexts(noon, noon + 5e3), ["12:00:00", "12:00:05"]);
  assert.deepEqual(timeTexts(noon, noon + 300), ["12:00:00.0", "12:00:00.3"]);
  assert.deepEqual(timeTexts(noon, noon + 30), ["12:00:00.0", ""]);
  assert.deepEqual(timeTexts(Date.parse("2024-02-01T12:00:00"), Date.parse("2024-02-02T12:00:00")), ["1 Feb 12:00", "2 Feb 12:00"]);
});

test("a search says once when jobs were submitted", () => {
  assert.equal(withoutTime("task:train age:1h..2h adam older:3d"), "task:train adam");
  const noon = new Date(2024, 1, 9, 12).getTime();
  assert.equal(timeWords(noon + 1200, noon + 5200), "since:2024-02-09T12:00:01 before:2024-02-09T12:00:06");
});

test("a word is not searched for while it may become a field or a value", () => {
  const isHalf = (value, typed, options) => {
    const box = Object.assign(Object.create(SearchBox.prototype), {told: {typed, options: options.map((text) => ({text}))}});
    box.n = {input: {value, selectionStart: value.length}, options: {hidden: !options.length}};
    return Boolean(box.isHalf());
  };
  assert.equal(isHalf("sta", "sta", ["state:"]), true);
  assert.equal(isHalf("state:", "", ["failed", "succeeded"]), true);
  assert.equal(isHalf("state:fa", "fa", ["failed"]), true);
  assert.equal(isHalf("task:train", "train", ["train", "train_all"]), false);
  assert.equal(isHalf("adam", "adam", []), false);
  assert.equal(isHalf("adam ", "", ["state:", "task:"]), false);
});
