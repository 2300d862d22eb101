// Drafts of forms: what is typed and not submitted yet, kept in this browser. Secrets and files are never kept.

const DRAFTS = "jobkit-drafts", DRAFTS_MOST = 20, DRAFT_MOST = 20000, DRAFT_MS = 14 * 86400000;

/** The drafts of this page by key, the newest last: `{at, fields, mode, when}`. */
class Drafts {
  constructor() { this.place = location.pathname; }

  all() {
    const kept = parse(stored(DRAFTS), {});
    return Object.entries(kept).filter(([, draft]) => draft && Date.now() - draft.at < DRAFT_MS);
  }

  key(name) { return `${this.place} ${name}`; }

  /** The draft of a form; null for none. */
  of(name) { return this.all().find(([key]) => key === this.key(name))?.[1] || null; }

  /** The name of the newest draft of this page, "" for none. */
  newest() {
    const found = this.all().filter(([key]) => key.startsWith(`${this.place} `)).sort(([, a], [, b]) => a.at - b.at).at(-1);
    return found ? found[0].slice(this.place.length + 1) : "";
  }

  /** Keep a draft, or none for null. Return whether it is kept. */
  keep(name, draft) {
    const others = this.all().filter(([key]) => key !== this.key(name)).slice(-DRAFTS_MOST + 1);
    const fits = draft && JSON.stringify(draft).length <= DRAFT_MOST;
    if (!fits && !this.of(name)) return false;
    return store(DRAFTS, JSON.stringify(Object.fromEntries([...others, ...(fits ? [[this.key(name), {...draft, at: Date.now()}]] : [])]))) && Boolean(fits);
  }
}
