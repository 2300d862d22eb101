// Units of common.js and card.js that need no page, under node's own test runner; tests/ui/test_esm.py starts it.
import assert from "node:assert/strict";
import {test} from "node:test";

const {parse, duration, ago, timeLeft, usualWidth, number, bytes, ticking, ask, modelOf, logOf, Pulse, startText, clockText, keepSelected} = await import(process.env.JOBKIT_ESM);

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
  const now = new Date(2026, 10, 27, 12, 0).getTime(), starts = (minutes, ahead) => startText({starts_at: new Date(now + 60000 * minutes).toISOString(), ahead}, now, false);
  assert.deepEqual([starts(140, 3), starts(0.7, 1), starts(0), starts(60 * 26)], ["about 14:20, 3 ahead", "in about 40 s, 1 ahead", "soon", "about Nov 28, 14:00"]);
  assert.deepEqual([startText({ahead: 1}, now, false), startText({ahead: 2000}, now, false), clockText(now + 42_000, now, true)], ["1 job ahead", "2,000 jobs ahead", "in 42 s"]);
  assert.deepEqual([3, 12, 3600, -1].map(timeLeft), ["a few seconds left", "about 15 s left", "about 1 h left", ""]);
  assert.deepEqual([0, 999, 1234, 2_500_000].map(bytes), ["0 B", "999 B", "1.2 kB", "2.5 MB"]);
  assert.deepEqual([1234567, 0.123456, null].map(number), ["1,234,567", "0.1235", ""]);
  assert.deepEqual([0, 0.0001, 0.00009999999, -0.00001, 1.23456e-12].map(number), ["0", "0.0001", "0.0001", "-1e-05", "1.235e-12"]);
  assert.equal(ticking(9.99), "9 s");
  assert.deepEqual([0, 100, 200, 400].map((seconds) => usualWidth(seconds, 200)), ["0%", "40%", "80%", "90%"]);  // never full
});

test("a selection survives rows that move, and also fewer rows, and a frame that is not shown has none", () => {
  const now = [], text = {nodeType: 3, length: 4, isConnected: true}, body = {nodeType: 1, childNodes: [1, 2, 3], isConnected: true};
  const el = {getRootNode: () => ({}), contains: () => true}, given = {Node: globalThis.Node, document: globalThis.document};
  const selected = {isCollapsed: false, anchorNode: text, anchorOffset: 2, focusNode: body, focusOffset: 3, setBaseAndExtent: (...all) => now.push(all)};
  Object.assign(globalThis, {Node: {TEXT_NODE: 3}, document: {getSelection: () => selected}});
  keepSelected(el, () => body.childNodes.pop());
  assert.deepEqual(now, [[text, 2, body, 2]]);
  keepSelected(el, () => { text.isConnected = false; });
  globalThis.document = {getSelection: () => null};
  keepSelected(el, () => now.push("drawn"));
  assert.deepEqual(now.slice(1), ["drawn"]);
  Object.assign(globalThis, given);
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

test("silence is counted while the page is seen, and a lost session loads it again unless something is typed", async () => {
  let answer = 0, loaded = 0, isTyped = true;
  const realNow = Date.now;
  let now = 0;
  Date.now = () => now;
  globalThis.document = {visibilityState: "visible", scripts: []};
  globalThis.location = {href: "http://x/app?job=1", reload: () => { loaded += 1; }};
  globalThis.fetch = async () => { if (!answer) throw new TypeError("no answer"); return {status: answer}; };
  const pulse = new Pulse(1000, true), checks = (count) => { for (let i = 0; i < count; i++) pulse.check(); };
  clearInterval(pulse.timer);
  pulse.holds.add(() => isTyped);

  checks(100);
  assert.equal(pulse.isAway, false);  // nothing has ever beaten here
  pulse.beat();
  document.visibilityState = "hidden";
  checks(100);
  document.visibilityState = "visible";
  now = 8 * 3600 * 1000;  // a night: clocks do not count, checks do
  checks(3);
  assert.equal(pulse.isAway, false);
  checks(1);
  assert.equal(pulse.isAway, true);
  pulse.refuse();
  assert.match(pulse.sentence(), /^Nothing was sent\. The server does not answer\. The page shows the state of \d\d:\d\d:\d\d/);
  pulse.beat();
  assert.deepEqual([pulse.isAway, pulse.refused], [false, false]);

  checks(4);
  for (const status of [0, 502, 405, 405]) {
    answer = status;
    await pulse.probe();
    now += 4000;
  }
  assert.equal(loaded, 0);
  assert.match(pulse.sentence(), /typed values will be lost/);
  isTyped = false;
  await pulse.probe();
  assert.equal(loaded, 1);

  const ofNotebook = new Pulse(1000, false);
  clearInterval(ofNotebook.timer);
  assert.match(ofNotebook.sentence(), /The page shows a saved state\.$/);  // it never heard of its kernel
  ofNotebook.beat();
  assert.match(ofNotebook.sentence(), /The page shows the state of \d\d:\d\d:\d\d\.$/);
  Date.now = realNow;
});
