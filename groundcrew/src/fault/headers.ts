/** When a provider wants to be asked again: what its headers say, in the many forms they say it in. */
import { MAX_RETRY_WAIT_MS } from "../limits.ts";

type Headers = ReadonlyMap<string, string>;

/**
 * Milliseconds that the provider asks us to wait, bounded; undefined when it does not, or nothing that makes sense. `Retry-After`
 * counts for more than a rate limit that has run out.
 * @param isLimited the answer was a 429: then a reset counts even where nothing says how much was left
 */
export function waitAsked(headers: Headers, now: number, isLimited: boolean): number | undefined {
  const theirNow = dated(headers.get("date")) ?? now; // a moment they name is one of their clock, which may differ from ours
  const asked =
    millis(headers.get("retry-after-ms")) ?? waitIn(headers.get("retry-after"), theirNow) ?? waitForReset(headers, theirNow, isLimited);
  return asked === undefined ? undefined : Math.min(asked, MAX_RETRY_WAIT_MS);
}

/** Names differ (`x-ratelimit-remaining-tokens`, `anthropic-ratelimit-tokens-remaining`): a reset is called as its remainder is. */
function waitForReset(headers: Headers, theirNow: number, isLimited: boolean): number | undefined {
  const left = [...headers].filter(([name]) => /rate-?limit.*remaining/.test(name));
  const used = left.filter(([, count]) => count.trim() === "0").map(([name]) => name.replace("remaining", "reset"));
  const plain = left.length === 0 && isLimited ? ["ratelimit-reset", "x-ratelimit-reset"] : [];
  const waits = [...used, ...plain].map((name) => waitIn(headers.get(name), theirNow)).filter((wait) => wait !== undefined);
  return waits.length > 0 ? Math.max(...waits) : undefined;
}

const MILLIS_PER: Record<string, number> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** `1.5s`, `6m0s`, `120ms`: how OpenAI spells a duration, in headers and in messages. */
export const DURATION = /(?:\d+(?:\.\d+)?(?:ms|[smhd]))+/;

/** A number this large is no duration but a moment: seconds since 1970, or milliseconds. */
const FIRST_EPOCH_SECONDS = 1e9;
const FIRST_EPOCH_MILLIS = 1e12;

/** Seconds, a duration or a moment. A moment that is over says nothing. */
export function waitIn(value: string | undefined, theirNow: number): number | undefined {
  const text = value?.trim() ?? "";
  if (new RegExp(`^${DURATION.source}$`).test(text)) {
    const parts = [...text.matchAll(/(\d+(?:\.\d+)?)(ms|[smhd])/g)];
    return parts.reduce((sum, [, count, unit = ""]) => sum + Number(count) * (MILLIS_PER[unit] ?? 0), 0);
  }
  const number = decimal(text);
  if (number !== undefined && number < FIRST_EPOCH_SECONDS) return number * 1_000;
  const moment = number === undefined ? dated(text) : number < FIRST_EPOCH_MILLIS ? number * 1_000 : number;
  return moment !== undefined && moment >= theirNow ? moment - theirNow : undefined;
}

function millis(value: string | undefined): number | undefined {
  return decimal(value?.trim() ?? "");
}

function decimal(text: string): number | undefined {
  return /^\d+(\.\d+)?$/.test(text) ? Number(text) : undefined;
}

/** An HTTP date or one of RFC 3339. Both name a time of day; without one, `Date.parse` finds dates in anything. */
function dated(text: string | undefined): number | undefined {
  const moment = text !== undefined && /\d:\d\d/.test(text) ? Date.parse(text) : Number.NaN;
  return Number.isNaN(moment) ? undefined : moment;
}
