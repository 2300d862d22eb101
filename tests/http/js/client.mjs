// One client of npm on one stream: what it is told, as lines of JSON on stdout, until `until` has come or it gives up.
//
//   node client.mjs CLIENT URL '{"token": "...", "until": "succeeded", "types": ["snapshot", ...]}'
const [, , client, url, given = "{}"] = process.argv;
const { token = "", until = "", types = [], last = "" } = JSON.parse(given);

const say = (told) => process.stdout.write(`${JSON.stringify(told)}\n`);
const headers = { ...(token ? { Authorization: `Bearer ${token}` } : {}), ...(last ? { "Last-Event-ID": last } : {}) };

function listen(source) {
  source.onopen = () => say({ client: "open" });
  source.onerror = (error) => {
    say({ client: "error", status: error.code ?? error.status ?? null });
    if (source.readyState === 2) process.exit(0); // it will not come back
  };
  const hear = (event) => {
    say({ type: event.type, id: event.lastEventId, data: event.data });
    if (event.type === until || (until === "data" && event.data.includes("last"))) {
      source.close();
      process.exit(0);
    }
  };
  for (const type of ["message", ...types]) source.addEventListener(type, hear);
}

if (client === "eventsource") {
  const { EventSource } = await import("eventsource");
  listen(new EventSource(url, { fetch: (to, init) => fetch(to, { ...init, headers: { ...init.headers, ...headers } }) }));
} else if (client === "event-source-polyfill") {
  const { default: polyfill } = await import("event-source-polyfill");
  listen(new polyfill.EventSourcePolyfill(url, { headers, heartbeatTimeout: 3000 }));
} else {
  globalThis.window = globalThis;
  globalThis.document = { hidden: false, addEventListener() {}, removeEventListener() {} };
  const { fetchEventSource } = await import("@microsoft/fetch-event-source");
  await fetchEventSource(url, {
    headers,
    openWhenHidden: true,
    async onopen(answer) {
      say({ client: "open", status: answer.status, position: answer.headers.get("mercure-last-event-id") });
      if (!answer.ok || answer.status === 204) process.exit(0);
    },
    onmessage(event) {
      if (!event.event && !event.data && !event.id) return; // a `retry:` or a comment
      say({ type: event.event || "message", id: event.id, data: event.data });
      if (event.event === until || (until === "data" && event.data.includes("last"))) process.exit(0);
    },
  });
}
