// The lines of a log by their place in a list: all of them, or only those of a search. It asks for those that it does not have.

const CHUNK = 500;     // lines of one answer (downloads.py)
const KEPT = 20_000;   // lines that the browser holds
const ANSWER_MS = 4000;  // after which a question is repeated; its answer is taken however late it comes

class LogReader {
  /** `ask(asked)` sends a request and returns whether it was sent; `changed()` is called when there are other lines. */
  constructor(ask, changed) {
    Object.assign(this, {ask, changed, level: ""});
    this.forget();
  }

  /** Another job than before, with the same level. */
  forget() {
    Object.assign(this, {lines: new Map(), total: 0, dropped: 0, hidden: 0, gapAfter: 0, pending: null, isKnown: false});
    this.narrow(this.level);
  }

  /** Number of lines in the list. */
  get count() { return this.numbers ? this.numbers.length : Math.max(0, this.total - this.dropped); }

  /** Number in the log of the line at place `i`, from 0. */
  numberAt(i) { return this.numbers ? this.numbers[i] : i < this.gapAfter ? i + 1 : i + 1 + this.dropped; }

  /** Place in the list of line `n`, or of the first one behind it. */
  placeOf(n) {
    if (!this.numbers) return n <= this.gapAfter ? n - 1 : Math.max(this.gapAfter, n - 1 - this.dropped);
    let low = 0, high = this.numbers.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.numbers[middle] < n) low = middle + 1; else high = middle;
    }
    return low;
  }

  at(i) { return this.lines.get(this.numberAt(i)); }

  /** Show only lines of a level, "" for all. Their numbers are to follow. */
  narrow(level) { Object.assign(this, {level, numbers: level ? [] : null}); }

  /** Ask for the first line from place `from` to `to` that is not here. */
  need(from, to) {
    for (let i = Math.max(0, from); i < Math.min(to, this.count); i++) {
      const n = this.numberAt(i);
      if (this.lines.has(n)) continue;
      // All lines are read in fixed portions, so that scrolling back reads none twice in part.
      // Lines of a level are read as part of the log, too: the server would search all of it for others behind them.
      const after = this.numbers ? n - 1 : Math.max(n - 1 - (n - 1) % CHUNK, i >= this.gapAfter ? this.gapAfter + this.dropped : 0);
      if (this.pending && (this.pending.after === after || Date.now() - this.pending.at < ANSWER_MS)) return;
      return this.want({after, level: "", n});
    }
  }

  /** Ask for the newest lines, of those behind the last known one. */
  tail() { if (!this.pending) this.want({after: this.isKnown ? this.total : null, level: "", newest: true}); else this.isBehind = true; }

  want(asked) {
    this.pending = {at: Date.now(), name: String(++LogReader.asked), ...asked};
    const {after, level, name, newest} = this.pending;
    if (!this.ask({name, level, ...(after != null && {after}), ...(newest && {newest})})) this.pending = null;
    clearTimeout(this.waiting);
    this.waiting = setTimeout(() => this.pending?.name === name && this.again(), ANSWER_MS + 100);
    this.waiting.unref?.();
  }

  /** Repeat the question: the page's connection was cut, for instance. Under the same name, since the answer may only be late. */
  again() {
    const {pending} = this;
    this.changed();  // other lines may be in sight by now
    if (this.pending === pending) this.want(pending);
  }

  close() { clearTimeout(this.waiting); }

  /** Take an answer; return whether it was the awaited one. */
  take(told) {
    if (told.name !== this.pending?.name) return false;
    const asked = this.pending;
    this.pending = null;
    if (told.problem) return true;
    if (this.isKnown && told.is_whole !== this.isWhole) {  // the job has ended: the lines have other numbers now
      this.forget();
      this.tail();
      this.renumbered?.();
      return false;
    }
    Object.assign(this, {total: told.total, dropped: told.dropped, hidden: told.hidden || 0, gapAfter: told.gap_after, isWhole: told.is_whole, isKnown: true});
    for (const line of told.lines) this.lines.set(line.n, line);
    // What an answer leaves out is not kept any more; without this it would be asked for again and again.
    if (asked.n && !this.lines.has(asked.n)) this.lines.set(asked.n, {n: asked.n, text: "not kept any more", source: "jobkit", at: ""});
    if (this.lines.size > KEPT) {
      const here = asked.n || this.total;
      for (const n of this.lines.keys()) if (Math.abs(n - here) > KEPT / 4) this.lines.delete(n);
    }
    if (this.isBehind) { this.isBehind = false; this.tail(); }
    this.changed();
    return true;
  }
}
LogReader.asked = 0;
