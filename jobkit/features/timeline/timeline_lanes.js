// What stands on the timeline's lanes, and where: slots of workers, tasks or batches as rows, attempts as bars, narrow ones
// as blocks. Pure.

/** So many lanes at most; bars below so many pixels are merged; the slot that all share who have none; the last lane. */
const [LANES, NARROW, SHARED, SCHEDULED] = [60, 3, 15, "scheduled"];

/** Milliseconds by which the reader's zone is behind UTC at a moment. */
const zoneMs = (ms) => new Date(ms).getTimezoneOffset() * 60e3;

/** Bokeh's axes show UTC, so they are given the local time of each moment, which daylight saving shifts; and back. */
const toAxis = (ms) => ms - zoneMs(ms);
const fromAxis = (local) => local + zoneMs(local + zoneMs(local));

/** The lane of jobs without a batch. */
const NO_BATCH = "no batch";

/** Give each attempt its `lane`, `[group, slot]`. The server knows the slots of workers; in a task or batch, a job has one
 *  for all its attempts, from the start of the first to the end of the last. `jobs` are lists of attempts. */
function arrangeLanes(jobs, by) {
  const all = [...jobs].sort((one, two) => one[0].start - two[0].start);
  if (by === "worker") for (const bar of all.flat()) Object.assign(bar, {lane: [bar.worker, bar.slot], isShared: bar.slot === SHARED});
  // The largest groups have fewer lanes if there would be too many.
  else for (let most = SHARED; packLanes(all, by, most) > LANES && most > 0;) most -= 1;
}

/** Give each attempt its lane in a task or batch, of which the one with the number `most` is shared. Return the number of lanes. */
function packLanes(jobs, by, most) {
  const ends = new Map();
  for (const attempts of jobs) {
    const [{task, batch, start}] = attempts, group = by === "task" ? task : batch || NO_BATCH, slots = ends.get(group) || ends.set(group, []).get(group);
    const free = slots.findIndex((end) => end <= start), slot = free >= 0 ? free : Math.min(slots.length, most);
    const isShared = slot === most && slots[slot] > start;
    slots[slot] = Math.max(slots[slot] || 0, attempts[attempts.length - 1].end ?? Infinity);
    for (const bar of attempts) Object.assign(bar, {lane: [group, slot], isShared});
  }
  return [...ends.values()].reduce((sum, slots) => sum + slots.length, 0);
}

/** Lanes that have a bar in sight, `[[group, slot], ...]`, all of them: workers by name, tasks by the number of attempts, the
 *  newest batch first. */
function laneRows(bars, by) {
  const groups = new Map();
  for (const {lane: [group, slot], start} of bars) {
    const known = groups.get(group) || groups.set(group, {group, slots: 0, count: 0, start}).get(group);
    known.slots = Math.max(known.slots, slot + 1);
    known.count += 1;
    known.start = Math.max(known.start, start);
  }
  const name = (one, two) => (one.group < two.group ? -1 : 1);
  const order = {worker: name, task: (one, two) => two.count - one.count || name(one, two), batch: (one, two) => (one.group === NO_BATCH) - (two.group === NO_BATCH) || two.start - one.start}[by];
  return [...groups.values()].sort(order).flatMap(({group, slots}) => Array.from({length: slots}, (_, slot) => [group, slot]));
}

/** A lane's name is short and unlike the others: slots after the first differ by characters without a width. */
function laneNames(rows, gutter) {
  const room = Math.floor((gutter - 16) / 6.6), used = new Set();
  return rows.map(([group, slot]) => {
    let name = slot ? "·" : group.length > room ? `${group.slice(0, room - 6)}…${group.slice(-5)}` : group;
    while (used.has(name) || name === SCHEDULED || !name) name += "\u200b";
    used.add(name);
    return name;
  });
}

/** Bars as they are drawn: those too narrow to be seen become one block with their neighbours, failed ones with failed
 *  ones only, so that red stays what it says. `at` gives a bar's lane, `scale` is pixels for a millisecond. */
function laneBlocks(bars, at, now, scale) {
  const made = [], last = new Map();
  for (const bar of [...bars].sort((one, two) => one.start - two.start)) {
    const y = at(bar), [left, right] = [bar.start, bar.end ?? now], block = last.get(y), narrow = (right - left) * scale < NARROW, failed = isBad(bar);
    if (narrow && block?.narrow && block.failed === failed && (left - block.right) * scale < 2) {
      block.bars.push(bar);
      block.right = Math.max(block.right, right);
    } else {
      const fresh = {bar, bars: [bar], y, left, right, narrow, failed};
      last.set(y, fresh);
      made.push(fresh);
    }
  }
  for (const each of made) {
    each.right = Math.max(each.right, each.left + 2 / scale);
    each.isMixed = each.bars.some(({task}) => task !== each.bar.task);
    each.quiet = !each.failed && (each.isMixed || (each.bars.length === 1 && ["cancelled", "released"].includes(each.bar.outcome)));
  }
  return made;
}

/** Pixels of a letter of a label. */
const LETTER = 6;

/** Return the text on a block: its job's name, or how many there are, as far as there is room beside `spare` pixels. */
function laneLabel({bar, bars, left, right, failed}, scale, spare = 0) {
  const room = Math.floor(((right - left) * scale - (failed ? 22 : 8) - spare) / LETTER);
  if (bars.length > 1) return room >= String(bars.length).length ? String(bars.length) : "";
  return room < 4 || bar.isShared ? "" : bar.name.length > room ? `${bar.name.slice(0, room - 1)}…` : bar.name;
}

/** Red, green and blue of a colour `#rrggbb`. */
function rgb(colour) { return [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16)); }

/** Mix a share of a colour with another one. */
function mixed(colour, ground, share) {
  const [one, two] = [rgb(colour), rgb(ground)];
  return `#${one.map((part, i) => Math.round(part * share + two[i] * (1 - share)).toString(16).padStart(2, "0")).join("")}`;
}

/** Return whether text on a colour must be dark. */
function isLight(colour) {
  const [red, green, blue] = rgb(colour).map((part) => (part / 255) ** 2.2);
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.195;
}

/** Return whether an attempt failed or was lost. */
function isBad({outcome}) { return ["failed", "retried", "lost"].includes(outcome); }
