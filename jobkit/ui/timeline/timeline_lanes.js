// What stands on the timeline's lanes, and where: workers' slots as rows, attempts as bars, narrow ones as blocks. Pure.

/** So many lanes at most; bars below so many pixels are merged; the slot that all share who have none; the last lane. */
const [LANES, NARROW, SHARED, SCHEDULED] = [60, 3, 15, "scheduled"];

/** Workers and slots that have a bar in sight, by name: `[[worker, slot], ...]`, all of them. */
function laneRows(bars) {
  const slots = new Map();
  for (const bar of bars) slots.set(bar.worker, Math.max(slots.get(bar.worker) ?? 0, bar.slot + 1));
  return [...slots].sort(([one], [two]) => (one < two ? -1 : 1)).flatMap(([worker, count]) => Array.from({length: count}, (_, slot) => [worker, slot]));
}

/** A lane's name is short and unlike the others: slots after the first differ by characters without a width. */
function laneNames(rows, gutter) {
  const room = Math.floor((gutter - 16) / 6.6), used = new Set();
  return rows.map(([worker, slot]) => {
    let name = slot ? "·" : worker.length > room ? `${worker.slice(0, room - 6)}…${worker.slice(-5)}` : worker;
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
    each.quiet = !each.failed && each.bars.length === 1 && ["cancelled", "released"].includes(each.bar.outcome);
  }
  return made;
}

/** Return the text on a block: its job's name, or how many there are, as far as there is room. */
function laneLabel({bar, bars, left, right, failed}, scale) {
  const room = Math.floor(((right - left) * scale - (failed ? 22 : 8)) / 6);
  if (bars.length > 1) return room >= String(bars.length).length ? String(bars.length) : "";
  return room < 4 || bar.slot === SHARED ? "" : bar.name.length > room ? `${bar.name.slice(0, room - 1)}…` : bar.name;
}

/** Return whether an attempt failed or was lost. */
function isBad({outcome}) { return ["failed", "retried", "lost"].includes(outcome); }
