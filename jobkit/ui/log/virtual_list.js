// A list of any length of which only the visible rows are in the document. Rows are at least ROW_PX high and may be higher.

const ROW_PX = 18;
const PLAIN_ROWS = 300;     // so many rows are simply all there
const MOST_PX = 15_000_000; // of height: browsers cut taller boxes
const AROUND = 12;          // rows above and below the visible ones

/**
 * The scroll position is a place in the list: at the share r of the whole way, the r-th part of the list is at the r-th part
 * of the window. With equal rows this is what any box does; with rows of all heights, none has to be measured that is not seen.
 */
class VirtualList {
  /** `row(i)` makes a row; `key(i)` changes when it must be made anew; `shown(from, to)` is called with what is visible. */
  constructor({row, key, shown, ...props}) {
    Object.assign(this, {row, key, shown, count: 0, rows: new Map()});
    this.sheet = h("div", {class: "sheet", role: "presentation"});
    this.pad = h("div", {class: "pad", role: "presentation"}, this.sheet);
    this.el = h("div", {class: "list rows", role: "list", tabindex: 0, onscroll: () => this.soon(), ...props}, this.pad);
    this.observer = new ResizeObserver(() => this.update());
    this.observer.observe(this.el);
  }

  close() { this.observer.disconnect(); cancelAnimationFrame(this.frame); }

  soon() { this.frame ??= requestAnimationFrame(() => { this.frame = null; this.draw(); }); }

  get isPlain() { return this.count <= PLAIN_ROWS; }

  /** Pixels by which it can be scrolled. */
  get way() { return Math.max(0, this.el.scrollHeight - this.el.clientHeight); }

  /** Share of them by which it is scrolled, from 0 to 1. */
  get share() { return this.way ? Math.min(1, this.el.scrollTop / this.way) : 0; }

  get isAtEnd() { return this.way - this.el.scrollTop < 4; }

  /** There are `count` rows now; the end stays in sight if `isFollowing`. */
  update(count = this.count, isFollowing = this.isFollowing) {
    const top = this.share * (this.count - this.el.clientHeight / ROW_PX), isOther = count !== this.count;
    Object.assign(this, {count, isFollowing});
    this.el.classList.toggle("plain", this.isPlain);
    this.pad.style.height = this.isPlain ? "" : `${Math.min(MOST_PX, count * ROW_PX)}px`;
    // A box that cannot get higher has other places for the same rows.
    if (isOther && !isFollowing && count * ROW_PX > MOST_PX) this.el.scrollTop = top / (count - this.el.clientHeight / ROW_PX) * this.way;
    if (this.isPlain) this.draw();
    if (isFollowing) this.el.scrollTop = this.el.scrollHeight;
    this.draw();
  }

  /** Scroll so that row `i` is at a share of the window's height. */
  show(i, where = 0.3) {
    this.isFollowing = false;
    if (this.isPlain) {
      const row = this.rows.get(i)?.el;
      if (row) this.el.scrollTop = row.offsetTop - this.el.clientHeight * where;
    } else {
      const high = this.el.clientHeight;
      this.el.scrollTop = Math.max(0, Math.min(1, (ROW_PX * i - where * high) / Math.max(1, ROW_PX * this.count - high))) * this.way;
    }
    this.draw();
  }

  isVisible(i) {
    const row = this.rows.get(i)?.el.getBoundingClientRect(), box = this.el.getBoundingClientRect();
    return Boolean(row) && row.top >= box.top && row.bottom <= box.bottom;
  }

  draw() {
    const high = this.el.clientHeight, share = this.share, place = share * this.count;
    const first = this.isPlain ? 0 : Math.max(0, Math.floor(place - share * high / ROW_PX) - AROUND);
    const end = this.isPlain ? this.count : Math.min(this.count, Math.ceil(place + (1 - share) * high / ROW_PX) + AROUND);
    this.shown(first, end);
    for (const [i, row] of this.rows) if (i < first || i >= end || row.key !== this.key(i)) { row.el.remove(); this.rows.delete(i); }
    let next = this.sheet.firstChild;
    for (let i = first; i < end; i++) {
      let row = this.rows.get(i);
      if (!row) this.rows.set(i, (row = {el: this.row(i), key: this.key(i)}));
      if (row.el === next) next = next.nextSibling; else this.sheet.insertBefore(row.el, next);
    }
    if (this.isPlain) { this.sheet.style.transform = ""; return; }
    const anchor = Math.min(Math.floor(place), this.count - 1), {el} = this.rows.get(anchor) || {};
    if (el) this.sheet.style.transform = `translateY(${share * high - el.offsetTop - (place - anchor) * el.offsetHeight}px)`;
  }
}
