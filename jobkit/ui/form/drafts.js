// Drafts of forms: what is typed and not submitted yet, kept in this browser. Secrets and files are never kept.

const DRAFTS = "jobkit-drafts", DRAFTS_MOST = 20, DRAFT_MOST = 20000, DRAFT_MS = 14 * 86400000;

/** Names, with a value behind them, and shapes of secrets in other texts: coarser than tasks/masking.py. */
const SECRET_TEXT = new RegExp([
  "(secret|token|passw|pwd|passphrase|credential|(api|access|account|private)[_-]?key|authorization)\\w*[\"'\\]]*\\s*[:=]",
  "bearer\\s", "-----begin", "://[^\\s/@]*:[^\\s/]*@", "\\b(gh[oprsu]_|github_pat_|glpat-|akia|sk-|hf_|pypi-|npm_|xox[a-z]-|eyj)[\\w-]{10}",
].join("|"), "i");

/** Return whether a value may hold a secret. */
const mayBeSecret = (value) => SECRET_TEXT.test(typeof value === "string" ? value : JSON.stringify(value) ?? "");

/** The drafts of this page and user by key, the newest last: `{at, fields, mode, when}`. */
class Drafts {
  constructor(user) { this.place = `${user && `${encodeURIComponent(user)}@`}${location.pathname}`; }

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
