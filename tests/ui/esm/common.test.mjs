// Units of common.js and card.js that need no page, under node's own test runner; tests/ui/test_esm.py starts it.
import assert from "node:assert/strict";
import {test} from "node:test";

const {parse, duration, ago, timeLeft, usualWidth, number, bytes, ticking, ask, modelOf, logOf} = await import(process.env.JOBKIT_ESM);

/** A model as anywidget spells it. */
function model(values = {}) {
  const heard = {};
  return {
    sent: [],
    get: (name) => values[name],
    set(name, value) { values[name] = value; (heard[`change:${name}`] || []).forEach((fn) => fn()); },
    save_changes() { this.sent.push(values.request); },
    on: (event, fn) => (heard[event] ||= []).push(fn),
    off: () => {},
  };
}

const lines = (...numbers) => numbers.map((n) => ({n, text: `line ${n}`}));

test("what is no JSON is taken as nothing", () => {
  assert.deepEqual([parse("", []), parse("{", 1), parse("null", 2), parse('{"a": 1}', 0)], [[], 1, 2, {a: 1}]);
});

test("times and sizes are written for people", () => {
  assert.deepEqual([0.0004, 0.25, 9.96, 61, 3661, 90061].map(duration), ["0 ms", "250 ms", "10 s", "1 m 01 s", "1 h 01 m", "1 d 1 h"]);
  assert.deepEqual([0, -5, 59, NaN].map(ago), ["just now", "in 5 s", "59 s ago", ""]);
  assert.deepEqual([3, 12, 3600, -1].map(timeLeft), ["a few seconds left", "about 15 s left", "about 1 h left", ""]);
  assert.deepEqual([0, 999, 1234, 2_500_000].map(bytes), ["0 B", "999 B", "1.2 kB", "2.5 MB"]);
  assert.deepEqual([1234567, 0.123456, null].map(number), ["1,234,567", "0.1235", ""]);
  assert.equal(ticking(9.99), "9 s");
  assert.deepEqual([0, 100, 200, 400].map((seconds) => usualWidth(seconds, 200)), ["0%", "40%", "80%", "90%"]);  // never full
});

test("a request repeats those of the last second, which Panel may have lost", () => {
  const one = model();
  ask(one, "cancel");
  ask(one, "retry", {id: "j1"});
  const [first, second] = one.sent.map((text) => JSON.parse(text));
  assert.equal(first.action, "cancel");
  assert.equal(first.earlier, undefined);
  assert.deepEqual([second.action, second.id, second.earlier[0].action], ["retry", "j1", "cancel"]);
  assert.notEqual(first.n, second.n);
});

test("a model of Panel's answers like one of anywidget's", () => {
  const proxy = {snapshot: "{}", on: () => {}, off: () => {}};
  const one = modelOf({view: {model_proxy: proxy}});
  one.set("request", "x");
  assert.deepEqual([one.get("snapshot"), proxy.request], ["{}", "x"]);
  const own = model();
  assert.equal(modelOf({model: own}), own);
});

test("a log grows by what is new, once, and asks for what it missed", () => {
  const one = model({log: JSON.stringify({lines: lines(1, 2), total: 2})});
  const log = logOf(one);
  one.set("log_append", JSON.stringify({lines: lines(2, 3), total: 3}));
  assert.deepEqual(log.lines.map((line) => line.n), [1, 2, 3]);
  assert.equal(one.sent.length, 0);
  one.set("log_append", JSON.stringify({lines: lines(6), total: 6}));
  assert.equal(JSON.parse(one.sent[0]).action, "log");
  one.set("log", JSON.stringify({lines: lines(1, 2, 3, 4, 5, 6), total: 6}));
  assert.deepEqual(log.lines.map((line) => line.n), [1, 2, 3, 4, 5, 6]);
  assert.equal(logOf(one), log);
});
