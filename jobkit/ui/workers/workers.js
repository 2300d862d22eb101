// Workers and queues (workers_page.py): a line for each worker, and tables of queues and of paused tasks.

const WORKER_FACES = {working: "succeeded", busy: "running", draining: "retrying", ended: "cancelled"};
const WORKER_WORDS = {working: "Ready", busy: "Working", draining: "Ending", ended: "Ended"};

/** Jobs of a worker that are listed. */
const WORKER_JOBS = 8;

/** Text of the resources of a worker or queue: "gpu 1 of 2". */
const resources = (has) => has.map(({name, used, total}) => h("span", {class: "resource", "data-full": String(used >= total)}, h("b", {text: name}), ` ${number(used)} of ${number(total)}`));

class Workers extends FeedPage {
  build() {
    const n = this.n, count = (head, name) => [head, "num", (queue) => h("span", {class: queue[name] ? "" : "muted", text: number(queue[name] || 0)})];
    const name = (head) => [head, "head mono", (line) => [h("span", {class: "name", text: line.name}), ...(line.why || []).map(({text, level}) => h("p", {class: "why", "data-level": level}, ticked(text)))]], pause = (kind) => [h("span", {class: "sr", text: "Pause"}), "pause", (line) => this.pause(kind, line)];
    n.sum = h("p", {class: "sum", role: "status", text: "Looking for workers…"});
    n.alerts = h("div", {class: "alerts", role: "status"});
    n.workers = h("h2", {text: "Workers", hidden: true});
    n.list = h("div", {class: "list", role: "list", "aria-label": "Workers", hidden: true});
    n.queues = new FeedTable([name("Queue"), count("Waiting", "queued"), count("Scheduled", "scheduled"), count("Running", "running"), count("Workers", "workers"), ["Resources in use", "", (line) => resources(line.has)], pause("queue")]);
    n.tasks = new FeedTable([name("Task"), pause("task")]);
    n.queueBox = h("section", {"aria-label": "Queues", hidden: true}, h("h2", {text: "Queues"}), n.queues.el);
    n.taskBox = h("section", {"aria-label": "Paused tasks", hidden: true}, h("h2", {text: "Paused tasks"}), n.tasks.el);
    this.pools = new PoolList(this);
    return [n.alerts, n.sum, n.queueBox, n.taskBox, this.pools.el, n.workers, n.list];
  }

  show({workers, queues, pools, tasks, alerts, alive, busy, slots}) {
    const n = this.n, actions = this.model.get("actions");
    put(n.sum, alive ? `${many(alive, "worker")} · ${number(busy)} of ${many(slots, "slot")} busy` : "");
    n.alerts.replaceChildren(...alerts.map((text) => h("div", {class: "notice", "data-level": "warning"}, icon("warn"), h("span", null, ticked(text)))));
    for (const row of this.keyed(n.list, workers, "id", (worker) => this.line(worker))) this.fill(row);
    n.list.hidden = !workers.length;
    n.workers.hidden = !workers.length || !(queues.length || pools.length);
    this.pools.show(pools);
    this.showEmpty(!alive && !pools.length, "No worker runs", "Jobs wait until a worker runs. Start one on any machine that reaches this Redis:", "jobkit worker -t your_module");
    n.queueBox.hidden = !queues.length;
    n.taskBox.hidden = !tasks.length;
    n.queueBox.classList.toggle("plain", !queues.some((queue) => queue.has.length));
    n.queues.show(queues, actions, (queue) => `${queue.queued && !queue.workers ? "bad " : ""}${queue.paused ? "paused" : ""}`);
    n.tasks.show(tasks, actions, () => "paused");
  }

  /** The button to pause or resume a queue or task; who paused it, and since when. */
  pause(kind, {name, paused, why}) {
    const verb = paused ? "resume" : "pause", word = paused ? "Resume" : "Pause";
    return [this.may(`${verb}_${kind}`) && h("button", {class: paused ? "btn small" : "btn small quiet acts", "data-id": name, text: word, "aria-label": `${word} ${kind} ${name}`, onclick: () => this.act(`${verb}_${kind}`, name)}),
      paused && !why?.length && h("span", {class: "since", title: paused.at ? exact(paused.at) : ""}, `paused${paused.by ? ` by ${paused.by}` : ""}${paused.at ? ", " : ""}`, paused.at && h("span", {"data-at": paused.at}))];
  }

  line({id}) {
    const n = {...spans({state: "state", queues: "muted queues", has: "has", slots: "slots", facts: "muted facts", act: "act"}), jobs: h("ul", {class: "jobs"}), cpu: loadChart("CPU"), memory: loadChart("memory"), gpus: h("span", {class: "gpus"})};
    n.loads = h("div", {class: "loads"}, n.cpu.el, n.memory.el, n.gpus);
    return {n, el: h("div", {class: "worker", role: "listitem"}, h("div", {class: "top"}, n.state, h("b", {class: "mono", text: id, title: id}), n.queues, h("span", {class: "spring"}), n.has, n.slots, n.act), n.facts, n.loads, n.jobs)};
  }

  /** The charts of a worker, of its GPUs and of its jobs. */
  showLoads({n, item: {load, gpus, jobs}}) {
    const step_s = load?.step_s;
    n.loads.hidden = !load;
    showLoad(n.cpu, load?.cpu, step_s, inPercent);
    showLoad(n.memory, load?.memory, step_s, inBytes);
    if (isNew(n.gpus, gpus.map(({name, index}) => [name, index]))) {
      n.charts = gpus.map(() => [loadChart("load"), loadChart("memory")]);
      n.gpus.replaceChildren(...gpus.map(({name, index}, i) => h("span", {class: "gpu"}, h("span", {class: "mono", text: `GPU ${index}`}), h("span", {class: "muted", text: name}), n.charts[i].map((chart) => chart.el))));
    }
    gpus.forEach((gpu, i) => {
      const [busy, memory] = n.charts[i];
      showLoad(busy, gpu.load, step_s, inPercent);
      showLoad(memory, gpu.memory, step_s, (mib) => `${(mib / 1024).toFixed(1)} of ${Math.round(gpu.total / 1024)} GiB`);
    });
    jobs.slice(0, WORKER_JOBS).forEach((job, i) => {
      const [cpu, memory] = n.jobCharts[i];
      showLoad(cpu, job.load?.cpu, step_s, inPercent);
      showLoad(memory, job.load?.memory, step_s, inBytes);
    });
  }

  fill(row) {
    const {n, el, item: worker} = row, {running, slots} = worker, look = worker.state === "working" && running ? "busy" : worker.state, face = WORKER_FACES[look];
    el.dataset.state = worker.state;
    if (isNew(n.state, look)) n.state.replaceChildren(h("span", {class: "chip", "data-face": face}, icon(face), WORKER_WORDS[look]));
    put(n.queues, worker.queues.join(", "));
    const shown = worker.state === "ended" ? 0 : Math.min(slots, 24);
    if (isNew(n.slots, [running, slots, shown])) n.slots.replaceChildren(...Array.from({length: shown}, (_, i) => h("i", {class: i < Math.round(running * shown / slots) ? "busy" : ""})), shown ? h("span", {class: "muted", text: `${running} of ${slots}`}) : "");
    if (isNew(n.has, worker.has)) n.has.replaceChildren(...resources(worker.has));
    const jobs = worker.jobs.slice(0, WORKER_JOBS), rest = worker.jobs.length - jobs.length;
    if (isNew(n.jobs, worker.jobs.map((job) => job.id))) {
      n.jobCharts = jobs.map(() => [loadChart("CPU"), loadChart("memory")]);
      n.jobs.replaceChildren(...jobs.map((job, i) => h("li", {"data-face": "running", "data-id": job.id}, this.link(job.id, job.name, "job"), h("span", {class: "mono muted args", text: job.args}), h("span", {class: "loads"}, n.jobCharts[i].map((chart) => chart.el)), h("span", {class: "bar"}, h("i")), h("span", {class: "time"}))),
        ...(rest ? [h("li", {class: "muted", text: `and ${number(rest)} more`})] : []));
    }
    jobs.forEach(({progress}, i) => {
      const bar = n.jobs.children[i].querySelector(".bar");
      bar.classList.toggle("unknown", progress == null);
      bar.firstChild.style.width = progress == null ? "" : `${progress * 100}%`;
    });
    this.showLoads(row);
    this.showAct(row);
  }

  showAct(row) {
    const {item: worker, n} = row, may = this.may("drain_worker") && worker.state === "working";
    if (!isNew(n.act, [may, row.asking])) return;
    n.act.replaceChildren(...(may ? this.question(row, "Stop…", "Finish its jobs, take no more, and exit", "Stop when idle", () => this.act("drain_worker", worker.id), () => this.showAct(row)) : []));
  }

  tick() {
    super.tick();
    for (const {item: worker, n} of this.rows.values()) {
      const silent = worker.beat_age_s + (this.now() - this.readAt) / 1000, isEnded = worker.state === "ended";
      put(n.facts, dotted(
        worker.host && `${worker.host}${worker.pid ? `, process ${worker.pid}` : ""}`,
        isEnded && `last seen ${ago(silent)}`,
        !isEnded && worker.started_at && `up ${duration(Math.floor(this.since(worker.started_at)))}`,
        !isEnded && worker.done && `${number(worker.done)} done`,
        !isEnded && !worker.load && worker.rss_bytes && `CPU ${worker.cpu_percent} % · ${bytes(worker.rss_bytes)}`,
        !isEnded && silent > 10 && `silent for ${duration(Math.floor(silent))}`,
        worker.engine && `${worker.engine}${worker.pool ? `, pool ${worker.pool}` : ""}`,
        worker.version && `jobkit ${worker.version}`,
        worker.python && `Python ${worker.python}`,
      ));
      worker.jobs.slice(0, WORKER_JOBS).forEach((job, i) => put(n.jobs.children[i].querySelector(".time"), job.started_at ? ticking(this.since(job.started_at)) : ""));
    }
  }
}

export default {render: (props) => mount(props, (model, el) => new Workers(model, el, "Workers"))};
