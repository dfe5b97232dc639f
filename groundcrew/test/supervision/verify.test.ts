/** Whatever is done to an audit log afterwards is found, at its first place, and called by its name; and a whole one is never accused. */
import { describe, expect, test } from "vitest";
import { AUDIT_CLOCK_BACK_MS } from "../../src/limits.ts";
import { type AuditEntry, type AuditHead, auditHash, chain, GENESIS, type StoredAudit } from "../../src/persistence/audit.ts";
import { type AuditDamage, type AuditVerdict, rowOfLine, type VerifyOptions, verifyAudit } from "../../src/supervision/verify.ts";
import { seeded } from "../crash/seeded.ts";

const SEED = Number(process.env["SEED"] ?? Date.now() % 1_000_000);
const KEY = "a key that is long enough to be one";
const TENANT = "acme";

type Random = () => number;

const HOSTILE = ["plain", "\u202eevil", 'a"b\\', "\ud800", "línea\n2", "\u0000", "<script>", "🙂", "\u2028"];

function entryOf(random: Random, tenant = TENANT): AuditEntry {
  const text = () => HOSTILE[Math.floor(random() * HOSTILE.length)] ?? "";
  return {
    tenant,
    action: random() < 0.5 ? "approval.requested" : "approval.approved",
    actor: { kind: "person", id: text() },
    channel: "cli",
    ...(random() < 0.5 && { reason: text() }),
    ...(random() < 0.5 && { detail: { [text()]: [Math.floor(random() * 9), text(), null] } }),
  };
}

interface Log {
  rows: StoredAudit[];
  head: AuditHead;
  key?: string;
}

function logOf(random: Random, records: number, key?: string, tenant = TENANT): Log {
  let head: AuditHead = { tenant, seq: 0, hash: GENESIS };
  const rows: StoredAudit[] = [];
  let at = 1_790_000_000_000;
  while (rows.length < records) {
    const entries = Array.from({ length: Math.min(1 + Math.floor(random() * 3), records - rows.length) }, () => entryOf(random, tenant));
    at += Math.floor(random() * 100_000) - 1_000; // clocks are corrected a little, also backwards
    rows.push(...chain(head, entries, at, key));
    const last = rows.at(-1);
    if (last) head = { tenant, seq: last.seq, hash: last.hash };
  }
  return { rows, head, ...(key !== undefined && { key }) };
}

async function* streamed<T>(items: Iterable<T>): AsyncGenerator<T> {
  yield* items;
}

/** As the store would give it: by number. */
function verify({ rows, head, key }: Log, options: VerifyOptions = {}): Promise<AuditVerdict> {
  const known = { tenant: TENANT, head: () => head, ...(key !== undefined && { key }) };
  return verifyAudit(streamed(rows), { ...known, ...options });
}

/** As an exported file. */
function verifyFile({ rows, key }: Log, options: VerifyOptions = {}): Promise<AuditVerdict> {
  const lines = rows.map((row) => rowOfLine(JSON.stringify(row)));
  return verifyAudit(streamed(lines), { ...(key !== undefined && { key }), ...options });
}

function byNumber(rows: readonly StoredAudit[]): StoredAudit[] {
  return rows.toSorted((a, b) => a.seq - b.seq);
}

function renumbered(rows: readonly StoredAudit[]): StoredAudit[] {
  return rows.map((row, index) => ({ ...row, seq: index + 1 }));
}

function pick(random: Random, below: number): number {
  return Math.floor(random() * below);
}

function must<T>(value: T | undefined): T {
  if (value === undefined) throw new Error("There is no such thing.");
  return value;
}

function flipped(text: string, at: number, bit: number): string {
  const bytes = Buffer.from(text);
  bytes[at] = must(bytes[at]) ^ (1 << bit);
  return bytes.toString();
}

/** A record of the same place with other words, and a hash that fits. */
function rewritten(row: StoredAudit, change: object, key?: string): StoredAudit {
  const record = JSON.stringify({ ...JSON.parse(row.record), ...change });
  return { ...row, record, hash: auditHash(record, key) };
}

interface Done {
  rows: StoredAudit[];
  seq: number | readonly number[];
  kind: AuditDamage | readonly AuditDamage[];
}

/** Ways to damage a log, each with what has to be found. `at` is from 0. */
const DAMAGE: Readonly<Record<string, (log: Log, random: Random) => Done>> = {
  "a byte of a record"({ rows }, random) {
    const at = pick(random, rows.length);
    const row = must(rows[at]);
    const record = `${row.record.slice(0, 5)}${row.record.charAt(5) === "x" ? "y" : "x"}${row.record.slice(6)}`;
    return { rows: rows.with(at, { ...row, record }), seq: at + 1, kind: "altered" };
  },
  "a letter of a hash"({ rows }, random) {
    const at = pick(random, rows.length);
    const row = must(rows[at]);
    const place = pick(random, row.hash.length);
    const hash = row.hash.slice(0, place) + (row.hash[place] === "0" ? "1" : "0") + row.hash.slice(place + 1);
    return { rows: rows.with(at, { ...row, hash }), seq: at + 1, kind: "altered" };
  },
  "a record and its hash"({ rows, key }, random) {
    const at = pick(random, rows.length);
    const change = must(
      [{ action: "nothing" }, { at: 7 }, { seq: rows.length + 3 }, { tenant: "other" }, { prev: auditHash("another") }, { v: 2 }][
        pick(random, 6)
      ],
    );
    return { rows: rows.with(at, rewritten(must(rows[at]), change)), seq: at + 1, kind: key ? "forged" : "altered" };
  },
  "the number of a row"({ rows }, random) {
    const at = pick(random, rows.length);
    const away = byNumber(rows.with(at, { ...must(rows[at]), seq: rows.length + 1 + pick(random, 9) }));
    return { rows: away, seq: at + 1, kind: at === rows.length - 1 ? "altered" : "reordered" };
  },
  "the tenant of a row"({ rows }, random) {
    const at = pick(random, rows.length);
    return { rows: rows.with(at, { ...must(rows[at]), tenant: "other" }), seq: at + 1, kind: "altered" };
  },
  "the first left out"({ rows }) {
    return { rows: rows.slice(1), seq: 1, kind: "missing" };
  },
  "one left out"({ rows }, random) {
    const at = pick(random, rows.length - 1);
    return { rows: rows.toSpliced(at, 1), seq: at + 1, kind: "missing" };
  },
  "some left out, and the rest numbered again"({ rows }, random) {
    const at = pick(random, rows.length - 1);
    const count = 1 + pick(random, rows.length - 1 - at);
    return { rows: renumbered(rows.toSpliced(at, count)), seq: at + 1, kind: "missing" };
  },
  "the end left out"({ rows }, random) {
    const left = pick(random, rows.length);
    return { rows: rows.slice(0, left), seq: left + 1, kind: "truncated" };
  },
  "one put in"({ rows }, random) {
    const at = pick(random, rows.length + 1);
    const record = must([rows[pick(random, rows.length)]?.record, "nonsense", "{}"][pick(random, 3)]);
    const put = { tenant: TENANT, seq: at + 1, record, hash: auditHash("something else") };
    return { rows: renumbered(rows.toSpliced(at, 0, put)), seq: at + 1, kind: "inserted" };
  },
  "one put in with a hash that fits"({ rows, key }, random) {
    const at = pick(random, rows.length + 1);
    const head = { tenant: TENANT, seq: at, hash: rows[at - 1]?.hash ?? GENESIS };
    const [put] = chain(head, [entryOf(random)], 1_790_000_000_000);
    return { rows: renumbered(rows.toSpliced(at, 0, must(put))), seq: at + 1, kind: key ? "forged" : "inserted" };
  },
  "several put in by somebody who has the key"({ rows, key }, random) {
    const at = pick(random, rows.length + 1);
    const head = { tenant: TENANT, seq: at, hash: rows[at - 1]?.hash ?? GENESIS };
    const put = chain(head, [entryOf(random), entryOf(random), entryOf(random)], 1_790_000_000_000, key);
    return { rows: renumbered(rows.toSpliced(at, 0, ...put)), seq: at + 1, kind: "inserted" };
  },
  "one put in a second time"({ rows }, random) {
    const at = pick(random, rows.length + 1);
    const copied = pick(random, rows.length);
    // Beside itself, which of the two is the copy nobody can say.
    return { rows: renumbered(rows.toSpliced(at, 0, must(rows[copied]))), seq: copied === at ? at + 2 : at + 1, kind: "inserted" };
  },
  "one of another log put in"({ rows, key }, random) {
    const at = pick(random, rows.length + 1);
    const other = logOf(random, rows.length + 1, key, random() < 0.5 ? "other" : TENANT);
    const put = { ...must(other.rows[pick(random, other.rows.length)]), tenant: TENANT };
    return { rows: renumbered(rows.toSpliced(at, 0, put)), seq: at + 1, kind: "inserted" };
  },
  "two that have changed places"({ rows }, random) {
    const first = pick(random, rows.length - 1);
    const second = first + 1 + pick(random, rows.length - 1 - first);
    const swapped = rows.with(first, must(rows[second])).with(second, must(rows[first]));
    return { rows: random() < 0.5 ? renumbered(swapped) : swapped, seq: first + 1, kind: "reordered" };
  },
  "one moved back"({ rows }, random) {
    const from = pick(random, rows.length - 1);
    const to = from + 1 + pick(random, rows.length - 1 - from);
    return { rows: renumbered(rows.toSpliced(from, 1).toSpliced(to, 0, must(rows[from]))), seq: from + 1, kind: "reordered" };
  },
};

const ROUNDS = 40;

describe(`a log that was damaged (seed ${SEED})`, () => {
  for (const [what, damage] of Object.entries(DAMAGE)) {
    test(`is found by: ${what}`, async () => {
      const random = seeded(SEED);
      for (let round = 0; round < ROUNDS; round++) {
        const log = logOf(random, 2 + pick(random, 30), round % 2 === 0 ? undefined : KEY);
        const { rows, seq, kind } = damage(log, random);
        const verdict = await verify({ ...log, rows });
        const where = `seed ${SEED}, round ${round}, ${log.rows.length} records: ${JSON.stringify(verdict)}`;
        expect(verdict.ok, where).toBe(false);
        if (verdict.ok) return;
        expect([seq].flat(), where).toContain(verdict.seq);
        expect([kind].flat(), where).toContain(verdict.kind);
        expect(verdict.why, where).not.toBe("");
        const isGrown = verdict.seq > log.rows.length; // behind a head that was kept, a file may go on
        if (!isGrown) expect((await verifyFile({ ...log, rows }, { kept: log.head })).ok, `${where}, as a file`).toBe(false);
      }
    });
  }

  test("is found whichever bit of whichever record or hash was turned", async () => {
    const log = logOf(() => 0.1, 4);
    for (const [at, row] of log.rows.entries()) {
      for (const field of ["record", "hash"] as const) {
        for (let byte = 0; byte < Buffer.byteLength(row[field]); byte++) {
          const rows = log.rows.with(at, { ...row, [field]: flipped(row[field], byte, byte % 8) });
          expect(await verify({ ...log, rows }), `${field} ${byte}`).toMatchObject({ ok: false, seq: at + 1, kind: "altered" });
        }
      }
    }
  });

  test("is found whichever bit of an exported file was turned, unless the file says the same afterwards", async () => {
    const log = logOf(() => 0.1, 3);
    const text = log.rows.map((row) => `${JSON.stringify(row)}\n`).join("");
    for (let byte = 0; byte < Buffer.byteLength(text); byte++) {
      const rows = flipped(text, byte, byte % 8)
        .split("\n")
        .filter((line) => line !== "")
        .map(rowOfLine);
      const verdict = await verifyAudit(streamed(rows), { kept: log.head });
      if (verdict.ok) expect(rows, `byte ${byte}`).toEqual(log.rows);
    }
  });
});

describe("a log that is whole", () => {
  test(`is never accused (seed ${SEED})`, async () => {
    const random = seeded(SEED);
    for (let round = 0; round < 100; round++) {
      const log = logOf(random, pick(random, 60), round % 2 === 0 ? undefined : KEY);
      const kept = log.rows[pick(random, log.rows.length)];
      const whole = { ok: true, records: log.rows.length, head: log.rows.length === 0 ? null : log.head };
      expect(await verify(log, kept && { kept }), `seed ${SEED}, round ${round}`).toEqual(whole);
      expect(await verifyFile(log, { kept: log.head.seq === 0 ? { seq: 0, hash: GENESIS } : log.head })).toEqual(whole);
    }
  });

  test("is whole without a single record, whether or not the store knows of it", async () => {
    expect(await verify({ rows: [], head: { tenant: TENANT, seq: 0, hash: GENESIS } })).toEqual({ ok: true, records: 0, head: null });
    expect(await verify({ rows: [], head: { tenant: TENANT, seq: 0, hash: "" } }, { head: () => null })).toMatchObject({ ok: true });
  });

  test("takes no more memory when it is long", async () => {
    const { setFlagsFromString } = await import("node:v8");
    setFlagsFromString("--expose-gc");
    const collect = (await import("node:vm")).runInNewContext("gc") as () => void;
    const used: number[] = [];
    async function* long() {
      let head: AuditHead = { tenant: TENANT, seq: 0, hash: GENESIS };
      for (let seq = 1; seq <= 40_000; seq++) {
        const row = must(
          chain(head, [{ tenant: TENANT, action: "a", actor: { kind: "person", id: "x".repeat(500) }, channel: "cli" }], seq)[0],
        );
        head = row;
        if (seq === 5_000 || seq === 40_000) {
          collect();
          used.push(process.memoryUsage().heapUsed);
        }
        yield row;
      }
    }
    expect(await verifyAudit(long())).toMatchObject({ ok: true, records: 40_000 });
    expect(must(used[1]) - must(used[0])).toBeLessThan(4 * 2 ** 20);
  });
});

describe("what only a head tells", () => {
  const random = seeded(7);

  test("a log that was cut, together with its head, is found by the head that was kept elsewhere", async () => {
    const { rows, head } = logOf(random, 9);
    const cut = { rows: rows.slice(0, 6), head: must(rows[5]) };
    expect(await verify(cut)).toMatchObject({ ok: true });
    expect(await verify(cut, { kept: head })).toMatchObject({ ok: false, seq: 7, kind: "truncated" });
  });

  test("a log that was emptied, together with its head, is found by the head that was kept elsewhere", async () => {
    const { head } = logOf(random, 3);
    expect(await verify({ rows: [], head }, { head: () => null, kept: head })).toMatchObject({ ok: false, seq: 1, kind: "truncated" });
  });

  test("a log that was written anew from its beginning is found by the head that was kept elsewhere", async () => {
    const [real, other] = [logOf(random, 9), logOf(random, 20)];
    expect(await verify(other)).toMatchObject({ ok: true });
    expect(await verify(other, { kept: real.head })).toMatchObject({ ok: false, seq: 9, kind: "forged" });
  });

  test("a log that was written anew without the key is found at its first record", async () => {
    const forged = logOf(random, 9);
    expect(await verify({ ...forged, key: KEY })).toMatchObject({ ok: false, seq: 1, kind: "forged" });
  });

  test("a log that is read with another key, or without one, is not passed, and it is said what may be the matter", async () => {
    const log = logOf(random, 5, KEY);
    const wrong = await verify({ ...log, key: `${KEY}!` });
    expect(wrong).toMatchObject({ ok: false, seq: 1, why: expect.stringContaining("another key") });
    const { key: _, ...without } = log;
    expect(await verify(without)).toMatchObject({ ok: false, seq: 1, why: expect.stringContaining("another key") });
  });

  test("records of which the store does not know where they end are not passed", async () => {
    const log = logOf(random, 4);
    expect(await verify(log, { head: () => null })).toMatchObject({ ok: false, kind: "missing" });
  });

  test("a head that is not of the last record is not passed", async () => {
    const log = logOf(random, 4);
    expect(await verify({ ...log, head: { ...log.head, hash: GENESIS } })).toMatchObject({ ok: false, seq: 4, kind: "altered" });
  });

  test("the head is asked for after the last record, so a log that grows meanwhile is not accused", async () => {
    const log = logOf(random, 6);
    let read = 0;
    async function* growing() {
      for (const row of log.rows) {
        read = row.seq;
        yield row;
      }
    }
    const verdict = await verifyAudit(growing(), { head: () => must(log.rows[read - 1]) });
    expect(verdict).toMatchObject({ ok: true, records: 6 });
  });
});

describe("where a record fits by its hash alone", () => {
  const log = logOf(seeded(5), 9);
  const last = must(log.rows[8]);

  test("one that says another number, or another tenant, is found even when it is the only one", async () => {
    const [first] = log.rows;
    for (const change of [{ seq: 2 }, { tenant: "other" }]) {
      const rows = [rewritten(must(first), change)];
      expect(await verifyAudit(streamed(rows), { tenant: TENANT })).toMatchObject({ ok: false, seq: 1, kind: "altered" });
    }
  });

  test("the last one, put in a second time, is found without a head", async () => {
    const rows = [...log.rows, { ...last, seq: 10 }];
    expect(await verifyAudit(streamed(rows))).toMatchObject({ ok: false, seq: 10, kind: "inserted" });
  });

  test("of two that follow the same one, the head says which is the other", async () => {
    const [rival] = chain(must(log.rows[7]), [entryOf(seeded(6))], 1_790_000_000_000);
    const behind = [...log.rows, { ...must(rival), seq: 10 }];
    expect(await verify({ ...log, rows: behind })).toMatchObject({ ok: false, seq: 10, kind: "inserted" });
    const before = renumbered(log.rows.toSpliced(8, 0, must(rival)));
    expect(await verify({ ...log, rows: before })).toMatchObject({ ok: false, seq: 9, kind: "inserted" });
    expect(await verifyAudit(streamed(before))).toMatchObject({ ok: false, seq: 9, kind: "inserted" });
  });

  test("a record that is left out is told before the damage of the next one", async () => {
    const rows = log.rows.with(4, { ...must(log.rows[4]), hash: GENESIS }).toSpliced(3, 1);
    expect(await verify({ ...log, rows })).toMatchObject({ ok: false, seq: 4, kind: "missing" });
  });
});

describe("what is said", () => {
  test("time that goes back by more than a clock is corrected is told, when the chain itself is whole", async () => {
    const before = { tenant: TENANT, seq: 0, hash: GENESIS };
    const at = 1_790_000_000_000;
    const entry = entryOf(() => 0.1);
    const first = chain(before, [entry], at);
    const little = chain(must(first[0]), [entry], at - AUDIT_CLOCK_BACK_MS);
    const much = chain(must(little[0]), [entry, entry], at - 3 * AUDIT_CLOCK_BACK_MS);
    const rows = [...first, ...little, ...much];
    expect(await verifyAudit(streamed(rows.slice(0, 2)))).toMatchObject({ ok: true });
    expect(await verifyAudit(streamed(rows))).toMatchObject({ ok: false, seq: 3, kind: "clock", record: { seq: 3 } });
    expect(await verifyAudit(streamed(rows.toSpliced(2, 1)))).toMatchObject({ ok: false, seq: 3, kind: "missing" });
    const longer = { tenant: TENANT, seq: 9, hash: GENESIS };
    expect(await verifyAudit(streamed(rows), { head: () => longer })).toMatchObject({ ok: false, seq: 5, kind: "truncated" });
  });

  test("the record that stands at the place is shown, as far as it can be read", async () => {
    const log = logOf(seeded(3), 5);
    const row = must(log.rows[2]);
    const readable = { ...row, record: row.record.replace(/approval\.\w+/, "approval.denied") };
    expect(await verify({ ...log, rows: log.rows.with(2, readable) })).toMatchObject({ record: { seq: 3, action: "approval.denied" } });
    expect(await verify({ ...log, rows: log.rows.with(2, { ...row, record: "{" }) })).not.toHaveProperty("record");
  });

  test("a column that somebody has filled with something else is damage, not an end of the program", async () => {
    const log = logOf(seeded(4), 3);
    for (const other of [null, 7, new Uint8Array([1]), Symbol.iterator.toString()]) {
      for (const field of ["record", "hash", "tenant", "seq"]) {
        const rows = log.rows.with(1, { ...must(log.rows[1]), [field]: other });
        expect(await verify({ ...log, rows }), `${field} ${String(other)}`).toMatchObject({ ok: false, seq: 2, kind: "altered" });
      }
    }
  });

  test("a line that is no record is damage, not an end of the program", async () => {
    for (const line of ["", "null", "[]", '"x"', "{}", "{", '{"tenant":1,"seq":1,"record":"","hash":""}', "\u0000"]) {
      expect(await verifyAudit(streamed([rowOfLine(line)])), line).toMatchObject({ ok: false, seq: 1, kind: "altered" });
    }
  });
});
