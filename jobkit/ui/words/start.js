// When a waiting job will start: twin of `Start.sentence` (model/start.py), in the zone of the reader.

/** `about 14:20` or `in about 40 s`; with the day if that is another one. `at` and `now` in milliseconds. */
function clockText(at, now, isExact) {
  const left = (at - now) / 1000, about = isExact ? "" : "about ";
  if (left < 5) return isExact ? "now" : "soon";
  if (left <= 90) return `in ${about}${isExact ? Math.round(left) : 5 * Math.max(1, Math.round(left / 5))} s`;
  const date = new Date(at), day = date.toDateString() === new Date(now).toDateString() ? "" : `${date.toLocaleDateString("en-US", {month: "short", day: "numeric"})}, `;
  return `${about}${day}${pad(date.getHours())}:${pad(date.getMinutes())}`;
}

/** When a job with a fixed time starts. */
const dueText = ({due_at: at}, now) => (at ? clockText(Date.parse(at), now, true) : "");

/** `about 14:20, 3 ahead`, or what is known of it; "" for nothing. */
function startText({starts_at: at, ahead}, now, isExact) {
  const when = at ? clockText(Date.parse(at), now, isExact) : "";
  return [when, ahead && (when ? `${number(ahead)} ahead` : `${many(ahead, "job")} ahead`)].filter(Boolean).join(", ");
}
