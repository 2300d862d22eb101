// Which metrics share a chart: the same cases as in tests/features/metrics/test_charts.py.
import assert from "node:assert/strict";
import {readFileSync} from "node:fs";
import test from "node:test";

const {chartsOf} = await import(process.env.JOBKIT_CHART);

test("metrics of the training and test data share a chart, whichever part comes first", () => {
  for (const [names, charts] of JSON.parse(readFileSync(new URL("charts.json", import.meta.url), "utf-8"))) {
    const found = [...chartsOf(names.map((name) => [name, {steps: [0], values: [1]}]))].map(([title, lines]) => [title, lines.map(({label}) => label)]);
    assert.deepEqual(found, Object.entries(charts));
  }
});
