// Drafts of forms: no secrets, and for each user of a browser their own.
import assert from "node:assert/strict";
import test from "node:test";

const kept = {};
globalThis.location = {pathname: "/app"};
globalThis.localStorage = {getItem: (key) => kept[key] ?? null, setItem: (key, text) => { kept[key] = text; }};
const {Drafts, fieldText, mayBeSecret} = await import(process.env.JOBKIT_DRAFTS);

test("texts that name or look like a secret are not kept", () => {
  for (const text of ['{"password": "x"}', "api_key=1", "Authorization: Basic abcd", "postgres://ada:x@db/1", "ghp_0123456789abcdef", "-----BEGIN PRIVATE KEY-----"]) assert.ok(mayBeSecret(text), text);
  for (const text of ["bert-tokenizer", "/data/tokens.csv", "task-2026-11-27-ada", "http://host:80/x", '{"lr": 0.1}', "", 7, null, undefined, ["a"]]) assert.ok(!mayBeSecret(text), String(text));
});

test("users of one browser have their own drafts", () => {
  const [ada, bob, none] = ["ada", "bob b", ""].map((user) => new Drafts(user));
  assert.ok(ada.keep("fit", {fields: {n: "7"}}));
  assert.equal(ada.newest(), "fit");
  assert.deepEqual([bob.newest(), none.newest(), bob.of("fit"), none.of("fit")], ["", "", null, null]);
  assert.ok(none.keep("train", {fields: {}}));
  assert.deepEqual([ada.newest(), none.newest()], ["fit", "train"]);
});

test("a length of time stands in its field as people type it", () => {
  const texts = ["PT3600S", "PT90S", "P2D", "P1DT60S", "PT0S", "PT0.5S", "2h"].map((value) => fieldText({kind: "duration"}, value));
  assert.deepEqual(texts, ["1h", "90s", "2d", "1441m", "0s", "PT0.5S", "2h"]);
});
