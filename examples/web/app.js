// Jobs on a plain page: no framework, no build. One event stream for the whole page, however many jobs there are.
//
// The page keeps one object for each job, as GET /api/jobs gave it, and lets events change it. An event that is older
// than what is known is left out, so it does not matter which of the two comes first.

const API = new URL("../../api/", import.meta.url); // the page is served at /examples/web/ beside /api/
const ICONS = { scheduled: "◷", queued: "○", running: "▶", succeeded: "✓", failed: "✗", cancelled: "■" };
const $ = (id) => document.getElementById(id);

const jobs = new Map(); // id -> { ...job, row }

async function call(path, method = "GET", body = undefined) {
  const headers = body === undefined ? {} : { "Content-Type": "application/json" };
  const xsrf = document.cookie.match(/(?:^|; )_xsrf=([^;]*)/); // only where the dashboard has a login
  if (xsrf) headers["X-XSRFToken"] = xsrf[1];
  const answer = await fetch(new URL(path, API), { method, headers, body: body && JSON.stringify(body) });
  const told = await answer.json();
  if (!answer.ok) throw new Error(told.message);
  return told;
}

function show(job, isNew = false) {
  const known = jobs.get(job.id);
  const row = known?.row ?? document.createElement("tr");
  jobs.set(job.id, { ...job, row });
  if (!known) (isNew ? $("jobs").prepend(row) : $("jobs").append(row));
  const cells = Array.from({ length: 5 }, () => document.createElement("td"));
  row.dataset.id = job.id;
  row.dataset.state = job.state;
  cells[0].className = job.state;
  cells[0].textContent = `${ICONS[job.state]} ${job.state}`;
  cells[1].textContent = job.title;
  if (job.state === "running") {
    const bar = document.createElement("progress");
    if (job.progress !== null) bar.value = job.progress; // without a value the bar moves to and fro
    cells[2].append(bar, ` ${job.message || ""}`);
  }
  cells[3].textContent = cells[3].title = job.error?.message || job.summary || "";
  if (["scheduled", "queued", "running"].includes(job.state)) {
    const button = document.createElement("button");
    button.textContent = "Cancel";
    button.onclick = () => call(`jobs/${job.id}/cancel`, "POST").catch(tell);
    cells[4].append(button);
  }
  row.replaceChildren(...cells);
}

const tell = (error) => { $("told").textContent = error ? error.message : ""; };

async function readAll() {
  const { jobs: found } = await call("jobs?limit=50");
  for (const { row } of jobs.values()) row.remove();
  jobs.clear();
  found.forEach((job) => show(job));
}

async function take(message) {
  const event = JSON.parse(message.data);
  const known = jobs.get(event.job_id);
  if (event.type === "deleted") {
    known?.row.remove();
    jobs.delete(event.job_id);
  } else if (!known) {
    show(await call(`jobs/${event.job_id}`), true);
  } else if (event.seq > known.seq || (event.type === "progressed" && event.seq === known.seq)) {
    show({ ...known, ...event.changes });
  }
}

function listen() {
  const source = new EventSource(new URL("events", API)); // comes back by itself, and goes on after the last event
  source.onopen = () => { $("connection").textContent = "live"; };
  source.onerror = () => { $("connection").textContent = "coming back"; };
  source.addEventListener("ready", () => readAll().catch(tell));
  source.addEventListener("reset", () => readAll().catch(tell));
  const types = ["submitted", "queued", "started", "cancel_requested", "retried", "lost", "released", "succeeded", "failed",
    "cancelled", "deleted", "progressed"];
  // One after the other: two events must not overtake each other while a job is being read.
  let last = Promise.resolve();
  for (const type of types) source.addEventListener(type, (message) => { last = last.then(() => take(message)).catch(() => {}); });
}

$("submit").onsubmit = async (event) => {
  event.preventDefault();
  try {
    await call("jobs", "POST", { task: $("task").value, params: JSON.parse($("params").value) });
    tell(null);
  } catch (error) {
    tell(error);
  }
};

const { tasks } = await call("tasks");
$("task").replaceChildren(...tasks.map((task) => new Option(task.title, task.name)));
listen();
