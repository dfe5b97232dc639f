/** The audit log at the command line: read, written out, and every damage to the file found. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { AuditEntry } from "../../src/persistence/audit.ts";
import { openStore } from "../../src/store.ts";
import { project } from "./command.ts";

const KEY = "0123456789abcdef0123456789abcdef";
const library = join(import.meta.dirname, "../../src/index.ts");

let crew: ReturnType<typeof project>;
let file: string;

beforeEach(() => {
  crew = project();
  file = join(crew.directory, "crew.db");
});

afterEach(() => crew.remove());

function entry(tenant: string, n: number): AuditEntry {
  const [run, approval] = [`run_${n % 3}`, `run_${n % 3}.1`];
  const reason = n === 3 ? "he is\u001b[31m right\u202e" : `reason ${n}`;
  return {
    tenant,
    action: `approval.${n % 2 ? "approved" : "viewed"}`,
    actor: { kind: "person", id: "ana" },
    channel: "cli",
    run,
    approval,
    reason,
  };
}

async function written(records: number, auditKey?: string, tenant = "default"): Promise<void> {
  const store = await openStore(file, { auditKey });
  for (let n = 1; n <= records; n++) await store.record([entry(tenant, n)]);
  await store.close();
}

/** What somebody does who can write the file. */
function tamper(sql: string): void {
  const db = new DatabaseSync(file);
  for (const { name } of db.prepare("select name from sqlite_master where type = 'trigger' and tbl_name like 'audit%'").all())
    db.exec(`drop trigger ${name}`);
  db.exec(sql);
  db.close();
}

const at = ["--store", "crew.db"];
const audit = (...args: string[]) => crew.groundcrew("audit", ...args);

describe("audit list", () => {
  test("shows the last entries, oldest first, and nothing in them acts on the terminal", async () => {
    await written(30);
    const { code, out } = await audit("list", ...at);
    expect(code).toBe(0);
    const lines = out.trimEnd().split("\n");
    expect(lines[0]).toMatch(/^RECORD +WHEN +WHO +WHAT +ABOUT +WHY$/);
    expect(lines).toHaveLength(21);
    expect(lines[1]).toMatch(/^11 +\d{4}-\d\d-\d\d .*Z +ana \(cli\) +approval\.approved +run_2\.1 +reason 11$/);
    expect((await audit("list", "--limit", "1", ...at)).out).toMatch(/^30 /m);
    const hostile = (await audit("list", "--after", "2", "--limit", "1", ...at)).out;
    expect(hostile).toContain("he is⟨U+001B⟩[31m right⟨U+202E⟩");
    // biome-ignore lint/suspicious/noControlCharactersInRegex: that is what must not be there
    expect(hostile).not.toMatch(/[\u001b\u202e]/);
  });

  test("is of one run, of one approval, or from one record on", async () => {
    await written(30);
    const seqs = async (...args: string[]) =>
      (await crew.json("audit", "list", ...args, ...at)).records.map(({ seq }: { seq: number }) => seq);
    expect(await seqs("--run", "run_1", "--limit", "3")).toEqual([22, 25, 28]);
    expect(await seqs("--approval", "run_0.1", "--after", "4", "--limit", "2")).toEqual([6, 9]);
    expect(await seqs("--after", "28")).toEqual([29, 30]);
    expect(await seqs("--tenant", "other")).toEqual([]);
  });

  test("says which agent a stop is about, and of news to people by which channel it went to whom", async () => {
    const store = await openStore(file);
    const common = { tenant: "default", actor: { kind: "person", id: "ana" }, channel: "cli" } as const;
    const news = { ...common, action: "approval.notified", run: "run_1", approval: "run_1.1" };
    await store.record([
      { ...common, action: "stop.set", reason: "look", detail: { agent: "support" } },
      { ...common, action: "stop.lifted", detail: { agent: "*" } },
      { ...news, detail: { channel: "slack", to: ["ana", "bo"] } },
      { ...news, detail: { channel: "webhook", to: [] } },
      { ...news, action: "approval.notify.failed", detail: { channel: "email", why: "gone" } },
    ]);
    await store.close();
    const { out } = await audit("list", ...at);
    expect(out).toMatch(/stop\.set +support +look$/m);
    expect(out).toMatch(/stop\.lifted +everything$/m);
    expect(out).toMatch(/approval\.notified +run_1\.1 +by slack to ana, bo$/m);
    expect(out).toMatch(/approval\.notified +run_1\.1 +by webhook$/m);
    expect(out).toMatch(/approval\.notify\.failed +run_1\.1 +by email: gone$/m);
  });

  test("shows a record that cannot be read as what it is", async () => {
    await written(3);
    tamper("update audit set record = '{' where seq = 2");
    expect((await audit("list", ...at)).out).toMatch(/^2 +unreadable/m);
  });
});

describe("audit verify", () => {
  test("passes a log that is whole, of every tenant, and prints a head that holds later", async () => {
    await written(3, undefined, "acme");
    await written(12);
    const { code, out, err } = await audit("verify", ...at);
    expect({ code, out }).toEqual({
      code: 0,
      out: expect.stringMatching(
        /^Whole: The log of "acme", 3 records\. Head: 3:[0-9a-f]{64}\nWhole: The log of "default", 12 records\. Head: 12:[0-9a-f]{64}\n$/,
      ),
    });
    expect(err).toContain("without a key");
    const [, head = ""] = /"default".*Head: (\S+)/.exec(out) ?? [];
    await written(2);
    expect(await audit("verify", "--tenant", "default", "--head", head, ...at)).toMatchObject({
      code: 0,
      out: expect.stringContaining("14 records"),
    });
    expect(await audit("verify", "--head", head, ...at)).toMatchObject({
      code: 2,
      err: expect.stringContaining("Say which with --tenant"),
    });
    expect(await crew.json("audit", "verify", ...at)).toMatchObject({
      ok: true,
      logs: [{ tenant: "acme", ok: true, records: 3 }, { ok: true }],
    });
  });

  test("does not accuse a log that is written to meanwhile", async () => {
    const store = await openStore(file);
    const stop = new AbortController();
    const writing = (async () => {
      for (let n = 1; !stop.signal.aborted; n++) await store.record([entry("default", n)]);
    })();
    try {
      for (let round = 0; round < 6; round++)
        expect(await audit("verify", ...at)).toMatchObject({ code: 0, out: expect.stringMatching(/^Whole: /) });
    } finally {
      stop.abort();
      await writing;
      await store.close();
    }
  });

  test("does not pass the log of a tenant that has none, and names those that there are", async () => {
    await written(1, undefined, "acme");
    expect(await audit("verify", "--tenant", "amce", ...at)).toMatchObject({
      code: 2,
      out: "",
      err: expect.stringMatching(/There is no audit log of the tenant "amce"\.\n.*There are logs of: "acme"\./),
    });
  });

  test("passes a store that has no log yet", async () => {
    await written(0);
    expect(await audit("verify", ...at)).toMatchObject({ code: 0, out: "There is no audit log yet.\n" });
  });

  test.each([
    ["altered", 4, "update audit set record = replace(record, 'reason 4', 'reason 5') where seq = 4"],
    ["altered", 4, "update audit set hash = (select hash from audit where seq = 5) where seq = 4"],
    ["missing", 1, "delete from audit where seq = 1"],
    ["missing", 4, "delete from audit where seq = 4"],
    ["truncated", 9, "delete from audit where seq > 8"],
    ["inserted", 10, "insert into audit select tenant, 10, record, hash from audit where seq = 2"],
    [
      "reordered",
      4,
      "update audit set seq = 99 where seq = 4; update audit set seq = 4 where seq = 6; update audit set seq = 6 where seq = 99",
    ],
    ["missing", 4, "update audit set tenant = 'other' where seq = 4"],
    ["missing", 9, "delete from audit_heads"],
  ])("finds a store file in which a record is %s, names record %i, and ends with 1", async (kind, seq, sql) => {
    await written(9);
    tamper(sql);
    const { code, out } = await audit("verify", "--tenant", "default", ...at);
    expect(out).toMatch(new RegExp(`^Damaged \\(${kind}\\) at record ${seq}: The log of "default": .+\\.\n`));
    expect(code).toBe(1);
    const asJson = await audit("verify", "--tenant", "default", "--json", ...at);
    expect(asJson.code).toBe(1);
    expect(JSON.parse(asJson.out)).toMatchObject({ ok: false, logs: [{ tenant: "default", ok: false, kind, seq }] });
  });

  test("finds a log that was cut, or removed, together with its head, by the head that was kept", async () => {
    await written(9);
    const { head } = (await crew.json("audit", "verify", ...at)).logs[0];
    const kept = ["--head", `${head.seq}:${head.hash}`, ...at];
    expect((await audit("verify", ...kept)).code).toBe(0);
    tamper("delete from audit where seq > 5; update audit_heads set seq = 5, hash = (select hash from audit where seq = 5)");
    expect((await audit("verify", ...at)).code).toBe(0);
    expect(await audit("verify", ...kept)).toMatchObject({ code: 1, out: expect.stringContaining("Damaged (truncated) at record 6") });
    tamper("delete from audit; delete from audit_heads");
    expect(await audit("verify", ...kept)).toMatchObject({ code: 1, out: expect.stringContaining("Damaged (truncated) at record 1") });
  });

  test("takes the key from the environment or the config file, and does not pass a log that was written without it", async () => {
    await written(4, KEY);
    expect(await crew.start(["audit", "verify", ...at], { GROUNDCREW_AUDIT_KEY: KEY }).ended).toMatchObject({
      code: 0,
      err: expect.not.stringContaining("without a key"),
    });
    writeFileSync(
      join(crew.directory, "groundcrew.config.ts"),
      `import { groundcrew } from ${JSON.stringify(library)};
export default groundcrew({ agents: [], store: "crew.db", supervision: { auditKey: ${JSON.stringify(KEY)} } });`,
    );
    expect(await audit("verify")).toMatchObject({ code: 0 });
    expect(await audit("verify", ...at)).toMatchObject({ code: 1, out: expect.stringContaining("another key") });
    tamper("delete from audit; delete from audit_heads");
    await written(4);
    expect(await audit("verify")).toMatchObject({ code: 1, out: expect.stringContaining("Damaged (forged) at record 1") });
  });

  test.each(["12", "12:abc", "0:", `x:${"0".repeat(64)}`])("says what a head looks like when it is %j", async (head) => {
    await written(1);
    expect(await audit("verify", "--head", head, ...at)).toMatchObject({
      code: 2,
      err: expect.stringContaining("Expected --head to be the number of a record"),
    });
  });
});

describe("audit export", () => {
  test("writes a file that is verified without the store, and in which any damage is found", async () => {
    await written(250);
    const { code, out, err } = await audit("export", ...at);
    expect(code).toBe(0);
    const lines = out.trimEnd().split("\n");
    expect(lines).toHaveLength(250);
    const [, head = ""] = /Records: 250\. Keep the head of the log elsewhere: (\S+)/.exec(err) ?? [];
    const save = (name: string, text: string) => writeFileSync(join(crew.directory, name), text);
    save("whole.jsonl", out);
    expect(await audit("verify", "whole.jsonl", "--head", head)).toMatchObject({ code: 0, out: expect.stringContaining("250 records") });
    expect((await audit("verify", "whole.jsonl")).err).toContain("Whether records are missing at its end");

    const damaged: [string, string[], ...string[]][] = [
      ["altered) at record 7", lines.with(6, lines[6]?.replace("reason 7", "reason 8") ?? "")],
      ["altered) at record 7", lines.with(6, "not json")],
      ["missing) at record 7", lines.toSpliced(6, 1)],
      ["inserted) at record 7", lines.toSpliced(6, 0, lines[2] ?? "")],
      ["reordered) at record 7", lines.with(6, lines[8] ?? "").with(8, lines[6] ?? "")],
      ["truncated) at record 200", lines.slice(0, 199), "--head", head],
    ];
    for (const [found, text, ...options] of damaged) {
      save("damaged.jsonl", `${text.join("\n")}\n`);
      expect(await audit("verify", "damaged.jsonl", ...options)).toMatchObject({
        code: 1,
        out: expect.stringContaining(`Damaged (${found}`),
      });
    }
  });

  test("begins behind the record that is named", async () => {
    await written(3);
    const { out } = await audit("export", "--after", "1", ...at);
    expect(
      out
        .trimEnd()
        .split("\n")
        .map((line) => JSON.parse(line).seq),
    ).toEqual([2, 3]);
  });

  test("of a file that is not there is told as a mistake", async () => {
    expect(await audit("verify", "nope.jsonl")).toMatchObject({ code: 2, err: expect.stringContaining("There is no file nope.jsonl") });
    expect(await audit("export", "out.jsonl", ...at)).toMatchObject({ code: 2, err: expect.stringContaining("takes no file") });
    expect(await audit("list", "--head", "1", ...at)).toMatchObject({ code: 2, err: expect.stringContaining("has no option --head") });
  });
});

describe("a bare store whose log is written with a key", () => {
  test("is not written to without it, because that would break the log", async () => {
    await written(2, KEY);
    const before = readFileSync(file);
    for (const args of [["stop", "--why", "x"], ["lift"], ["approve", "run_1.1"]]) {
      expect(await crew.groundcrew(...args, ...at), args.join(" ")).toMatchObject({
        code: 2,
        err: expect.stringContaining("$GROUNDCREW_AUDIT_KEY"),
      });
    }
    expect(readFileSync(file).equals(before)).toBe(true);
    expect(await crew.groundcrew("runs", ...at)).toMatchObject({ code: 0 });
    const env = { GROUNDCREW_AUDIT_KEY: KEY };
    expect(await crew.start(["stop", "--why", "x", ...at], env).ended).toMatchObject({ code: 0 });
    expect(await crew.start(["audit", "verify", ...at], env).ended).toMatchObject({ code: 0, out: expect.stringContaining("3 records") });
  });
});
