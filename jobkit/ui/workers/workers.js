// Workers and queues (workers_page.py): tables of queues and of paused tasks, and hosts with a line for each worker.

const WORKER_FACES = {working: "succeeded", busy: "running", draining: "retrying", lost: "failed"};
const WORKER_WORDS = {working: "Ready", busy: "Working", draining: "Draining", lost: "Lost"};
/** States of queues that are marked, and the words of those that have another one; jobs that run are in a column. */
const QUEUE_WORDS = {full: "Waiting"}, QUEUE_FACES = {stuck: "failed", "partly stuck": "failed", paused: "retrying", full: "queued"};

/** Jobs of a worker that are listed. */
const WORKER_JOBS = 8;

/** Workers from which on the list can be searched. */
const MANY_WORKERS = 8;

/** Orders of hosts, workers and jobs, by the name of a field; "" is by host. */
const WORKER_ORDERS = [["", "Host"], ["rss_bytes", "Memory", "Those with the most memory first"], ["cpu_percent", "CPU", "The busiest first"]];

/** A meter: "gpu 1 of 2". */
const meter = (name, used, total, words = number) => h("span", {class: "resource", "data-full": String(used >= total), style: `--part: ${Math.min(100, Math.round(100 * used / total))}%`}, h("b", {text: name}), ` ${words(used)} of ${words(total)}`);
const resources = (has) => has.map(({name, used, total}) => meter(name, used, total));

class Workers extends FeedPage {
  build() {
    const n = this.n, count = (head, name) => [head, "num", (queue) => h("span", {class: queue[name] ? "" : "muted", text: number(queue[name] || 0)})];
    const name = (head) => [head, "head", (line) => [h("span", {class: "name mono", text: line.name}), line.state && this.queueState(line.state), ...(line.why || []).map(({text, level}) => h("p", {class: "why", "data-level": level}, ticked(text)))]], pause = (kind) => [h("span", {class: "sr", text: "Pause"}), "pause", (line) => this.pause(kind, line)];
    n.sum = h("p", {class: "sum", role: "status", text: "Looking for workers…"});
    n.alerts = h("div", {class: "alerts", role: "status"});
    n.most = h("span", {class: "most"});
    this.order = radios(WORKER_ORDERS, (order) => this.reorder(order), {"aria-label": "Order of workers", class: "segments small"});
    n.find = h("input", {type: "search", class: "find", placeholder: "Host, worker, queue or job", "aria-label": "Find workers", maxlength: 200, hidden: true, oninput: () => this.narrow()});
    n.none = h("p", {class: "muted", text: "No worker matches", role: "status", hidden: true});
    n.head = h("div", {class: "heading", hidden: true}, h("h2", {text: "Workers"}), h("span", {class: "spring"}), n.find, this.order.el);
    n.list = h("div", {class: "hosts", role: "list", "aria-label": "Hosts", hidden: true});
    n.queues = new FeedTable([name("Queue"), count("Queued", "queued"), count("Scheduled", "scheduled"), count("Running", "running"), count("Workers", "workers"), ["Resources in use", "", (line) => resources(line.has)], pause("queue")]);
    n.tasks = new FeedTable([name("Task"), pause("task")]);
    n.queueBox = h("section", {"aria-label": "Queues", hidden: true}, h("h2", {text: "Queues"}), n.queues.el);
    n.taskBox = h("section", {"aria-label": "Paused tasks", hidden: true}, h("h2", {text: "Paused tasks"}), n.tasks.el);
    this.sections = Object.entries(SECTIONS).map(([name, Section]) => [name, new Section(this)]);
    this.order.mark("");
    return [n.alerts, h("div", {class: "overview"}, n.sum, n.most), n.queueBox, n.taskBox, ...this.sections.map(([, {el}]) => el), n.head, n.none, n.list];
  }

  show({sum, heaviest, hosts, queues, sections, tasks, alerts, alive}) {
    const n = this.n, actions = this.model.get("actions"), count = hosts.reduce((all, {workers}) => all + workers.length, 0);
    put(n.sum, count ? sum : "");
    n.alerts.replaceChildren(...alerts.map((text) => h("div", {class: "notice", "data-level": "warning"}, icon("warn"), h("span", null, ticked(text)))));
    if (isNew(n.most, [heaviest?.id, heaviest?.rss_bytes])) n.most.replaceChildren(...(heaviest ? ["Most memory: ", this.link(heaviest.id, heaviest.name, "job"), heaviest.args && h("span", {class: "mono", text: ` ${heaviest.args}`}), `, ${bytes(heaviest.rss_bytes)} on ${heaviest.host}`] : []));
    this.showHosts(hosts);
    n.list.hidden = n.head.hidden = !count;
    n.find.hidden = count < MANY_WORKERS;
    for (const [name, section] of this.sections) section.show(sections[name]);
    this.showEmpty(!alive && !Object.values(sections).some((rows) => rows.length), "No worker runs", "Jobs wait until a worker runs. Start one on any machine that reaches this Redis:", "jobkit worker -t your_module");
    n.queueBox.hidden = !queues.length;
    n.taskBox.hidden = !tasks.length;
    n.queueBox.classList.toggle("plain", !queues.some((queue) => queue.has.length));
    n.queues.show(queues, actions, ({paused}) => (paused ? "paused" : ""));
    n.tasks.show(tasks, actions, () => "paused");
  }

  queueState(state) {
    const face = QUEUE_FACES[state], word = QUEUE_WORDS[state] || state[0].toUpperCase() + state.slice(1);
    return face ? h("span", {class: "chip small", "data-face": face}, icon(face === "failed" ? "warn" : face), word) : h("span", {class: "sr", text: word});
  }

  /** The button to pause or resume a queue or task; who paused it, and since when. */
  pause(kind, {name, paused, why}) {
    const verb = paused ? "resume" : "pause", word = paused ? "Resume" : "Pause";
    return [this.may(`${verb}_${kind}`) && h("button", {class: paused ? "btn small" : "btn small quiet acts", "data-id": name, text: word, "aria-label": `${word} ${kind} ${name}`, onclick: () => this.act(`${verb}_${kind}`, name)}),
      paused && !why?.length && h("span", {class: "since", title: paused.at ? exact(paused.at) : ""}, `paused${paused.by ? ` by ${paused.by}` : ""}${paused.at ? ", " : ""}`, paused.at && h("span", {"data-at": paused.at}))];
  }

  // -- hosts and their workers ----------------------------------------------------------------------------------------

  reorder(order) {
    this.by = order;
    this.order.mark(order);
    this.showHosts(this.data.hosts, true);
    this.tick();
  }

  inOrder(items) { return this.by ? [...items].sort((a, b) => (b[this.by] || 0) - (a[this.by] || 0)) : items; }

  /** Show the hosts. Rows do not move under the pointer or the focus, unless `isAsked`. */
  showHosts(hosts, isAsked = false) {
    const list = this.n.list, isFixed = !isAsked && (list.matches(":hover") || list.contains(list.getRootNode().activeElement));
    for (const row of keyed(this.rows, list, this.inOrder(hosts), "name", (host) => this.host(host), isFixed)) {
      const {n, item: host} = row;
      put(n.sum, host.sum);
      if (isNew(n.has, [host.has, host.rss_bytes, host.memory_bytes, host.cpu_percent])) n.has.replaceChildren(host.rss_bytes ? h("span", {class: "muted", text: `CPU ${host.cpu_percent} %`}) : "", !host.rss_bytes ? "" : host.memory_bytes ? meter("memory", host.rss_bytes, host.memory_bytes, bytes) : h("span", {class: "muted", text: `memory ${bytes(host.rss_bytes)}`}), ...resources(host.has));
      for (const worker of keyed(row.workers, n.list, this.inOrder(host.workers), "id", (one) => this.line(one), isFixed)) this.fill(worker);
    }
    this.narrow();
  }

  host({name}) {
    const n = {...spans({sum: "muted sum", has: "has"}), list: h("div", {class: "list", role: "list", "aria-label": `Workers on ${name}`})};
    return {n, workers: new Map(), el: h("section", {class: "host", role: "listitem", "aria-label": `Host ${name}`}, h("div", {class: "top"}, h("h3", {class: "mono", text: name || "unknown host"}), n.sum, h("span", {class: "spring"}), n.has), n.list)};
  }

  /** Hide the workers that do not match the search. */
  narrow() {
    const n = this.n, words = n.find.value.toLowerCase().split(/\s+/).filter(Boolean);
    let found = false;
    for (const host of this.rows.values()) {
      let any = false;
      for (const {el, item: {id, queues, jobs}} of host.workers.values()) {
        const text = [host.item.name, id, ...queues, ...jobs.map((job) => `${job.name} ${job.args} ${job.id}`)].join(" ").toLowerCase();
        el.hidden = !words.every((word) => text.includes(word));
        any ||= !el.hidden;
      }
      host.el.hidden = !any;
      found ||= any;
    }
    n.none.hidden = found || !words.length;
  }

  line({id}) {
    const n = {...spans({state: "state", queues: "muted queues", has: "has", slots: "slots", facts: "muted facts", act: "act"}), jobs: h("ul", {class: "jobs"}), cpu: loadChart("CPU"), memory: loadChart("memory"), gpus: h("span", {class: "gpus"})};
    n.loads = h("div", {class: "loads"}, n.cpu.el, n.memory.el, n.gpus);
    return {n, el: h("div", {class: "worker", role: "listitem"}, h("div", {class: "top"}, n.state, h("b", {class: "mono", text: id, title: id}), n.queues, h("span", {class: "spring"}), n.has, n.slots, n.act), n.facts, n.loads, n.jobs)};
  }

  /** The charts of a worker, of its GPUs and of its jobs. */
  showLoads({n, item: {load, gpus}}, jobs) {
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
    jobs.forEach((job, i) => {
      const [cpu, memory] = n.jobCharts[i];
      showLoad(cpu, job.load?.cpu, step_s, inPercent);
      showLoad(memory, job.load?.memory, step_s, inBytes);
    });
  }

  fill(row) {
    const {n, el, item: worker} = row, {running, slots} = worker, isLost = worker.state === "lost", look = worker.state === "working" && running ? "busy" : worker.state, face = WORKER_FACES[look];
    el.dataset.state = worker.state;
    if (isNew(n.state, look)) n.state.replaceChildren(h("span", {class: "chip", "data-face": face, title: isLost ? "It was killed, or has lost contact: no heartbeat for a lease" : null}, icon(face), WORKER_WORDS[look]));
    put(n.queues, worker.queues.join(", "));
    const shown = isLost ? 0 : Math.min(slots, 24);
    if (isNew(n.slots, [running, slots, shown])) n.slots.replaceChildren(...Array.from({length: shown}, (_, i) => h("i", {class: i < Math.round(running * shown / slots) ? "busy" : ""})), shown ? h("span", {class: "muted", text: `${number(running)} of ${many(slots, "slot")}`}) : "");
    if (isNew(n.has, worker.has)) n.has.replaceChildren(...resources(worker.has));
    row.jobs = this.inOrder(worker.jobs).slice(0, WORKER_JOBS);
    const rest = Math.max(running, worker.jobs.length) - row.jobs.length;
    const more = isLost ? worker.lost && `the first ${row.jobs.length} of ${worker.lost}` : rest > 0 && `and ${number(rest)} more`;
    if (isNew(n.jobs, [row.jobs.map(({id, became}) => [id, became]), more])) {
      n.jobCharts = row.jobs.map(() => [loadChart("CPU"), loadChart("memory")]);
      n.jobs.replaceChildren(...row.jobs.map((job, i) => this.job(job, n.jobCharts[i])), ...(more ? [h("li", {class: "muted", text: more})] : []));
    }
    row.jobs.forEach(({progress, became}, i) => {
      if (became) return;
      const bar = n.jobs.children[i].querySelector(".bar");
      bar.classList.toggle("unknown", progress == null);
      bar.firstChild.style.width = progress == null ? "" : `${progress * 100}%`;
    });
    this.showLoads(row, row.jobs);
    this.showAct(row);
  }

  /** A job that runs, or one that was lost with its worker and its outcome since. */
  job({id, name, args, face, became}, charts) {
    const named = [name ? this.link(id, name, "job") : h("span", {class: "mono", text: id.slice(0, 8)}), h("span", {class: "mono muted args", text: args, title: args})];
    if (became) return h("li", {class: "became", "data-id": id}, named, h("span", null, face && icon(face), became));
    return h("li", {"data-face": "running", "data-id": id}, named, h("span", {class: "loads"}, charts.map((chart) => chart.el)), h("span", {class: "bar"}, h("i")), h("span", {class: "time"}));
  }

  showAct(row) {
    const {item: worker, n} = row, may = this.may("drain_worker") && worker.state === "working";
    if (!isNew(n.act, [may, row.asking])) return;
    n.act.replaceChildren(...(may ? this.question(row, "Drain…", "Finish its jobs, take no more, and end", "End when idle", () => this.act("drain_worker", worker.id), () => this.showAct(row)) : []));
  }

  tick() {
    super.tick();
    for (const host of this.rows.values()) for (const row of host.workers.values()) this.showFacts(row);
  }

  showFacts({item: worker, n, jobs}) {
    const silent = worker.beat_age_s + (this.now() - this.readAt) / 1000, isLost = worker.state === "lost";
    n.facts.title = isLost ? exact(this.now() - silent * 1000) : "";
    put(n.facts, dotted(
      isLost && `last heard of ${ago(silent)}${worker.jobs.length ? "" : " without a job"}`,
      worker.pid && `process ${worker.pid}`,
      !isLost && worker.started_at && `up ${duration(Math.floor(this.since(worker.started_at)))}`,
      !isLost && worker.done && `${number(worker.done)} done`,
      !isLost && !worker.load && worker.rss_bytes && `CPU ${worker.cpu_percent} % · ${bytes(worker.rss_bytes)}`,
      !isLost && silent > 10 && `silent for ${duration(Math.floor(silent))}`,
      worker.engine && `${worker.engine}${worker.pool ? `, pool ${worker.pool}` : ""}`,
      worker.version && `jobkit ${worker.version}`,
      worker.python && `Python ${worker.python}`,
    ));
    jobs.forEach((job, i) => job.became || put(n.jobs.children[i].querySelector(".time"), job.started_at ? ticking(this.since(job.started_at)) : ""));
  }
}

export default {render: (props) => mount(props, (model, el) => new Workers(model, el, "Workers"))};
