/** `audit list`, `export` and `verify`: the log of who did what, to be read, kept elsewhere, and checked. */

import { once } from "node:events";
import { createReadStream, existsSync } from "node:fs";
import { createInterface } from "node:readline";
import { MAX_LIST_PAGE } from "../limits.ts";
import type { AuditHead, AuditRecord, StoredAudit } from "../persistence/audit.ts";
import { DEFAULT_TENANT } from "../principal.ts";
import { EVERYTHING } from "../supervision/stops.ts";
import { type AuditVerdict, rowOfLine, type VerifyOptions, verifyAudit } from "../supervision/verify.ts";
import { type Invocation, oneOf, parseCount, usage } from "./arguments.ts";
import type { Backend } from "./backend.ts";
import { findConfig, loadCrew } from "./config.ts";
import { type ExitCode, exit } from "./exit.ts";
import { type Output, standardStreams } from "./output.ts";
import { AUDIT_KEY_VARIABLE, openBackend } from "./place.ts";
import { clockTime, columns, inert, jsonText, oneLine, part, shellWord } from "./terminal.ts";

const DEFAULT_LIST = 20;
const SHORT = 60;
const MAX_RECORD = 1e9 - 1;

/** What is done to the log, and the options that make sense with it. */
const WAYS = {
  list: ["tenant", "after", "limit", "run", "approval"],
  export: ["tenant", "after"],
  verify: ["tenant", "head"],
} as const;

const ONLY_SOME = [...new Set(Object.values(WAYS).flat())];

export async function audit(call: Invocation, out: Output): Promise<ExitCode> {
  const way = oneOf(call.args[0] ?? "", "what is done with the log", ["list", "export", "verify"] as const);
  const foreign = ONLY_SOME.find((option) => call.text(option) !== undefined && !(WAYS[way] as readonly string[]).includes(option));
  if (foreign !== undefined)
    throw usage(`\`groundcrew audit ${way}\` has no option --${foreign}.`, "`groundcrew help audit` says what each is for.");
  const file = call.args[1];
  if (file !== undefined && way !== "verify")
    throw usage(`\`groundcrew audit ${way}\` takes no file.`, "To write one: `groundcrew audit export > audit.jsonl`.");
  if (file !== undefined) return verifyFile(file, call, out);
  const backend = await openBackend(call, "runs");
  try {
    if (way === "list") return await list(backend, call, out);
    return way === "export" ? await exportLog(backend, call, out) : await verifyStore(backend, call, out);
  } finally {
    await backend.close();
  }
}

/** A record, and the hash by which the next one names it. */
type Shown = Partial<AuditRecord> & { seq: number; hash: string };

async function list(backend: Backend, call: Invocation, out: Output): Promise<ExitCode> {
  const limit = parseCount(call.text("limit") ?? String(DEFAULT_LIST), "limit", 1, MAX_LIST_PAGE);
  const found = await newest(backend, call, limit);
  if (out.json) out.document({ records: found });
  else if (found.length === 0) out.note("There are no such records.");
  else {
    const [head = "", ...lines] = columns([["RECORD", "WHEN", "WHO", "WHAT", "ABOUT", "WHY"], ...found.map(cells)]);
    for (const line of [out.paint("dim", head), ...lines]) out.line(line);
  }
  return exit.ok;
}

/** The last ones, oldest first; with `--after`, the first behind it. */
async function newest(backend: Backend, call: Invocation, limit: number): Promise<Shown[]> {
  const { tenant, after } = pageOf(call);
  const [run, approval] = [call.text("run"), call.text("approval")];
  const isAny = run === undefined && approval === undefined;
  const isMeant = (one: Shown) => (run === undefined || one.run === run) && (approval === undefined || one.approval === approval);
  const isFromStart = call.text("after") !== undefined;
  const head = isAny && !isFromStart ? await headOf(backend, tenant) : null;
  const found: Shown[] = [];
  for await (const row of behind(backend, tenant, head ? Math.max(0, head.seq - limit) : after)) {
    const shown = shownOf(row);
    if (!isMeant(shown)) continue;
    found.push(shown);
    if (found.length > limit) found.shift();
    if (isFromStart && found.length === limit) break;
  }
  return found;
}

function pageOf(call: Invocation): { tenant?: string; after: number } {
  const [tenant, after] = [call.text("tenant"), call.text("after")];
  return { ...(tenant !== undefined && { tenant }), after: parseCount(after ?? "0", "after", 0, MAX_RECORD) };
}

/** What cannot be read is shown as far as it can: `verify` says what is the matter with it. */
function shownOf({ seq, record, hash }: StoredAudit): Shown {
  try {
    return { ...(JSON.parse(record) as AuditRecord), seq, hash };
  } catch {
    return { seq, hash, action: "unreadable" };
  }
}

function cells(shown: Shown): string[] {
  const { seq, at, actor, channel, action = "" } = shown;
  const when = typeof at === "number" && Number.isFinite(new Date(at).getTime()) ? clockTime(at) : "";
  const who = actor ? `${actor.id} (${actor.kind === "person" ? channel : actor.kind})` : "";
  return [String(seq), when, who, action, aboutOf(shown), whyOf(shown)].map((cell) => oneLine(String(cell), SHORT));
}

/** A stop is about no run, but about an agent, or all of them. */
function aboutOf({ approval, run, detail }: Shown): string {
  const about = approval ?? run ?? Object(detail).agent ?? "";
  return about === EVERYTHING ? "everything" : about;
}

/** Of news to people, by which channel it went and to whom: each channel has an entry. */
function whyOf({ reason, action = "", detail }: Shown): string {
  if (reason !== undefined || !action.startsWith("approval.notif")) return reason ?? "";
  const { channel, to = [], why } = Object(detail) as { channel?: string; to?: readonly string[]; why?: string };
  return `${part("by ", channel)}${part(" to ", [to].flat().join(", "))}${part(": ", why)}`;
}

/** Lines of JSON, each as long as its record: to a pipe that is slow they go no faster than it takes them. */
async function exportLog(backend: Backend, call: Invocation, out: Output): Promise<ExitCode> {
  const { tenant, after } = pageOf(call);
  const end: { head?: AuditHead | null } = {};
  let records = 0;
  for await (const row of upToHead(backend, tenant, after, end)) {
    const { tenant, seq, record, hash } = row;
    if (!standardStreams.out.write(`${jsonText({ tenant, seq, record, hash })}\n`)) await once(standardStreams.out, "drain");
    records++;
  }
  out.note(`Records: ${records}.${end.head ? ` Keep the head of the log elsewhere: ${headText(end.head)}` : ""}`);
  return exit.ok;
}

async function verifyStore(backend: Backend, call: Invocation, out: Output): Promise<ExitCode> {
  const kept = keptOf(call);
  const asked = call.text("tenant");
  const own = backend.isServer ? [undefined] : (await backend.auditHeads()).map(({ tenant }) => tenant);
  const tenants = asked === undefined ? own : [asked];
  if (kept && tenants.length > 1) throw usage("--head is of one tenant's log, and there are several.", "Say which with --tenant.");
  const key = process.env[AUDIT_KEY_VARIABLE] || backend.auditKey;
  const logs: Verified[] = [];
  for (const tenant of kept && tenants.length === 0 ? [undefined] : tenants) {
    const end: { head?: AuditHead | null } = {};
    const options = { ...withKey(key), ...(tenant !== undefined && { tenant }), ...(kept && { kept }), head: () => end.head ?? null };
    const verdict = await verifyAudit(upToHead(backend, tenant, 0, end), options);
    if (asked !== undefined && verdict.ok && verdict.records === 0) throw noLog(asked, await backend.auditHeads());
    logs.push(verifiedOf(verdict, tenant));
  }
  return report(logs, key !== undefined, out);
}

/** Nothing is whole: a name with a slip in it would pass for ever. */
function noLog(tenant: string, heads: readonly AuditHead[]): Error {
  const there = heads.map((head) => `"${head.tenant}"`).join(", ");
  return usage(`There is no audit log of the tenant "${tenant}".`, `There are logs of: ${there || "nobody yet"}.`);
}

async function verifyFile(file: string, call: Invocation, out: Output): Promise<ExitCode> {
  if (file !== "-" && !existsSync(file)) throw usage(`There is no file ${file}.`, "`groundcrew audit export > audit.jsonl` writes one.");
  const kept = keptOf(call);
  const tenant = call.text("tenant");
  const key = process.env[AUDIT_KEY_VARIABLE] || (await configuredKey(call));
  const options: VerifyOptions = { ...withKey(key), ...(tenant !== undefined && { tenant }), ...(kept && { kept }) };
  const code = report([verifiedOf(await verifyAudit(rowsOf(file), options), tenant)], key !== undefined, out);
  if (!kept && code === exit.ok && !out.json)
    out.note("Whether records are missing at its end, only a head that was kept elsewhere can tell: --head.");
  return code;
}

/** The key that the project's config file has, where there is one. */
async function configuredKey(call: Invocation): Promise<string | undefined> {
  if (call.text("store") !== undefined || call.text("url") !== undefined) return undefined;
  const path = findConfig(call.text("config"));
  if (path === undefined) return undefined;
  const crew = await loadCrew(path, false);
  await crew.close();
  return crew.auditKey;
}

async function* rowsOf(file: string): AsyncGenerator<StoredAudit> {
  const input = file === "-" ? process.stdin : createReadStream(file);
  for await (const line of createInterface({ input, crlfDelay: Number.POSITIVE_INFINITY })) yield rowOfLine(line);
}

/** Every record behind `after`, page by page. */
async function* behind(backend: Backend, tenant: string | undefined, after: number): AsyncGenerator<StoredAudit> {
  for (let last = after; ; ) {
    const page = await backend.audit({ ...(tenant !== undefined && { tenant }), after: last, limit: MAX_LIST_PAGE });
    yield* page;
    const end = page.at(-1);
    if (!end) return;
    last = end.seq;
  }
}

/**
 * The records of a log that others may be writing, up to the head that `end` gets. The head is read behind the last record: of a
 * whole log it is never before that, and what has come since is read as well.
 */
async function* upToHead(
  backend: Backend,
  tenant: string | undefined,
  after: number,
  end: { head?: AuditHead | null },
): AsyncGenerator<StoredAudit> {
  let last = after;
  for await (const row of behind(backend, tenant, after)) {
    yield row;
    last = row.seq;
  }
  const head = await headOf(backend, tenant);
  end.head = head;
  if (!head || head.seq <= last) return;
  for await (const row of behind(backend, tenant, last)) {
    if (row.seq > head.seq) return;
    yield row;
  }
}

async function headOf(backend: Backend, tenant: string | undefined): Promise<AuditHead | null> {
  const heads = await backend.auditHeads(tenant);
  return heads[0] ?? null;
}

type Verified = { tenant: string } & AuditVerdict;

function verifiedOf(verdict: AuditVerdict, tenant: string | undefined): Verified {
  const found = verdict.ok ? verdict.head?.tenant : verdict.record?.tenant;
  return { tenant: tenant ?? found ?? DEFAULT_TENANT, ...verdict };
}

function report(logs: readonly Verified[], isKeyed: boolean, out: Output): ExitCode {
  const isWhole = logs.every(({ ok }) => ok);
  if (out.json) out.document({ ok: isWhole, logs });
  else {
    if (logs.length === 0) out.line("There is no audit log yet.");
    for (const log of logs) tell(log, out);
    const first = logs.find((log) => log.ok && log.head);
    if (first?.ok && first.head) {
      const of = logs.length > 1 ? ` --tenant ${shellWord(first.tenant)}` : "";
      out.note(
        `Keep the head elsewhere. Later, \`groundcrew audit verify${of} --head ${headText(first.head)}\` shows that nothing up to it was changed.`,
      );
      if (!isKeyed)
        out.note(
          "It is written without a key: whoever can write the store could write a whole new log, which only a kept head would show.",
        );
    }
  }
  return isWhole ? exit.ok : exit.failed;
}

function tell(log: Verified, { line, paint }: Output): void {
  const whose = `The log of "${inert(log.tenant)}"`;
  if (log.ok) {
    line(
      `${paint("green", "Whole")}: ${whose}, ${log.records} ${log.records === 1 ? "record" : "records"}.${log.head ? ` Head: ${headText(log.head)}` : ""}`,
    );
    return;
  }
  line(`${paint("red", `Damaged (${log.kind}) at record ${log.seq}`)}: ${whose}: ${inert(log.why)}.`);
  if (log.record) line(`  ${oneLine(jsonText(log.record), Number.POSITIVE_INFINITY)}`);
}

function headText({ seq, hash }: Pick<AuditHead, "seq" | "hash">): string {
  return `${seq}:${inert(hash)}`;
}

function keptOf(call: Invocation): Pick<AuditHead, "seq" | "hash"> | undefined {
  const given = call.text("head");
  if (given === undefined) return undefined;
  const [, seq, hash] = /^([1-9]\d{0,14}):([0-9a-f]{64})$/.exec(given) ?? [];
  if (seq !== undefined && hash !== undefined) return { seq: Number(seq), hash };
  throw usage("Expected --head to be the number of a record, a colon, and its hash.", "As `groundcrew audit verify` has printed it.");
}

function withKey(key: string | undefined): { key?: string } {
  return key === undefined ? {} : { key };
}
