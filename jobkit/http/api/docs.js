// The page at /api/docs: one form for each route of openapi.json. Everything is set as text, never as markup.
"use strict";

const make = (tag, text = "", props = {}) => Object.assign(document.createElement(tag), { textContent: text }, props);

async function start() {
  const api = await (await fetch("openapi.json")).json();
  const routes = document.getElementById("routes");
  routes.textContent = "";
  const byTag = {};
  for (const [path, item] of Object.entries(api.paths))
    for (const [name, operation] of Object.entries(item))
      if (operation.tags) (byTag[operation.tags[0]] ??= []).push([name.replace("x-", "").toUpperCase(), path, operation]);
  for (const [tag, entries] of Object.entries(byTag)) {
    routes.append(make("h2", tag));
    for (const entry of entries) routes.append(card(api, ...entry));
  }
}

function card(api, method, path, operation) {
  const box = make("details");
  const head = make("summary");
  head.append(make("b", method), make("code", path), " ", operation.summary);
  const form = make("form");
  const inputs = operation.parameters.filter((one) => one.in !== "header").map((one) => {
    const label = make("label", one.name + (one.required ? " *" : ""));
    const input = make("input", "", { name: one.name, required: one.required });
    label.append(input);
    if (one.description) label.append(make("small", one.description));
    form.append(label);
    return [one, input];
  });
  let body = null;
  if (operation.requestBody) {
    body = make("textarea", operation.requestBody.required ? '{"task": "", "params": {}}' : "{}");
    form.append(body);
  }
  const out = make("pre", "", { hidden: true });
  let stop = null;
  const send = make("button", "Send", { type: "submit" });
  form.append(send);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (stop) return stop.abort();
    stop = new AbortController();
    send.textContent = "Stop";
    out.hidden = false;
    out.textContent = "…";
    try {
      await run(method, path, inputs, body, out, stop.signal);
    } catch (error) {
      out.textContent += `\n${error.name === "AbortError" ? "stopped" : error}`;
    }
    stop = null;
    send.textContent = "Send";
  });
  box.append(head, form, out);
  return box;
}

async function run(method, path, inputs, body, out, signal) {
  const query = new URLSearchParams();
  let url = path;
  for (const [one, input] of inputs) {
    if (one.in === "path") url = url.replace(`{${one.name}}`, encodeURIComponent(input.value));
    else if (input.value) for (const value of one.schema.type === "array" ? input.value.split(",") : [input.value]) query.append(one.name, value);
  }
  const root = location.pathname.replace(/\/api\/docs$/, "");
  const headers = {};
  const token = document.getElementById("token").value;
  if (token) headers.Authorization = `Bearer ${token}`;
  if (body) headers["Content-Type"] = "application/json";
  const xsrf = document.cookie.match(/(?:^|; )_xsrf=([^;]*)/);
  if (xsrf) headers["X-XSRFToken"] = xsrf[1];
  const answer = await fetch(`${root}${url}${query.size ? `?${query}` : ""}`, { method, headers, body: body?.value, signal });
  out.textContent = `${answer.status} ${answer.statusText}\n${["content-type", "location", "link", "etag"].filter((name) => answer.headers.has(name)).map((name) => `${name}: ${answer.headers.get(name)}`).join("\n")}\n\n`;
  const type = answer.headers.get("content-type") || "";
  if (type.includes("json")) {
    out.textContent += JSON.stringify(await answer.json(), null, 2);
  } else if (type.startsWith("text/")) {
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let part; !(part = await reader.read()).done; ) out.append(part.value);
  } else out.textContent += `${(await answer.arrayBuffer()).byteLength} bytes`;
}

start();
