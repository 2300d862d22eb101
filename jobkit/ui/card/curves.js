// The metrics of a job card: curves that grow by parts, drawn by chart.js.

const curveStates = new WeakMap();

/** The curves of a model: `[steps, values, steps of the open bucket, its values]` by name. */
const curvesOf = (model) => keptOf(model, {n: 0, curves: new Map()}, (kept) => ({
  metrics() {
    const data = parse(model.get("metrics"), {});
    Object.assign(kept, {n: data.n || 0, curves: new Map(Object.entries(data.curves || {}))});
    kept.views.forEach((view) => view.later());
  },
  metrics_append() {
    const lines = [parse(model.get("metrics_append"), [])].flat(2).filter((line) => line.n > kept.n);
    if (!lines.length) return;
    if (lines[0].n > kept.n + 1) return void ask(model, "log");  // some were missed
    for (const {n, curves} of lines) {
      kept.n = n;
      for (const [name, [steps, values, tailSteps, tailValues]] of Object.entries(curves)) {
        const curve = kept.curves.get(name) || [[], [], [], []];
        curve[0].push(...steps);
        curve[1].push(...values);
        kept.curves.set(name, [curve[0], curve[1], tailSteps, tailValues]);
      }
    }
    kept.views.forEach((view) => view.later());
  },
}), curveStates);

class CurvePane {
  constructor(card) {
    this.charts = new Charts();
    this.el = this.charts.root;
    this.kept = curvesOf(card.model);
    this.kept.views.add(this);
    card.stops.push(() => this.kept.views.delete(this), () => cancelAnimationFrame(this.frame));
    this.draw();
  }

  /** Draw once a frame, however often curves grow. */
  later() {
    cancelAnimationFrame(this.frame);
    this.frame = requestAnimationFrame(() => this.draw());
  }

  draw() {
    const curves = [...this.kept.curves].map(([name, [steps, values, tailSteps, tailValues]]) => [name, {steps: [...steps, ...tailSteps], values: [...values, ...tailValues]}]);
    this.charts.show(chartsOf(curves));
  }
}
