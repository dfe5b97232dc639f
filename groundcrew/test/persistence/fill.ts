/** A store with a run in every state there is, and everything that can hang on one. */
import { hash } from "node:crypto";
import type { ApprovalRow } from "../../src/persistence/approval.ts";
import type { AuditEntry } from "../../src/persistence/audit.ts";
import type { Chunk, Event, Fact } from "../../src/persistence/event.ts";
import { thisWorker } from "../../src/persistence/host.ts";
import { newRunId } from "../../src/persistence/id.ts";
import type { Blob } from "../../src/persistence/json-value.ts";
import type { Append, Claim, NewRun, Store, Transition } from "../../src/persistence/store.ts";

const LEASE = 10_000;
const alice = { tenant: "acme", user: "alice \\ \u{1f600}", roles: ["member"] };
const bob = { tenant: "other\\", user: "bob", roles: [] };

/** Names whose order is another in each alphabet, and in each way to write what no table can hold. */
const ODD = ["", "a\0", "a!", "a\\", "a\\0", "A", "\uffff", "\u{1f600}"];

export type Filled = Awaited<ReturnType<typeof fill>>;

/** @returns the ids of its runs by what they are; the worker that held the last of them is gone without a word. */
export async function fill(store: Store, now: number) {
  let time = now;
  const worker = { ...thisWorker(), pid: 2 ** 22 + 1 }; // no process has this number
  await store.join(worker, LEASE);

  const create = async (more: Partial<NewRun> = {}): Promise<string> => {
    const { agent = "support", principal = alice, session } = more;
    const created: Event = { type: "run.created", agent, principal, deadline: now + 86_400_000, input: "\0 \ud800", seq: 1, at: now };
    const id = newRunId(time++, session?.id);
    const { run } = await store.create({
      id,
      agent,
      principal,
      deadline: created.deadline,
      dueAt: now,
      events: [created],
      blobs: [],
      ...more,
    });
    return run.id;
  };
  const claim = async (id: string): Promise<Claim> => {
    const claims = await store.claim(worker.id, ["support"], 100);
    const found = claims.find(({ run }) => run.id === id);
    if (!found || claims.length > 1) throw new Error(`${claims.map(({ run }) => run.id)} were given, not ${id}`);
    return found;
  };
  const event = (seq: number, fact: Fact = { type: "run.released", why: `event ${seq}` }): Event => ({ ...fact, seq, at: now });
  const chunk = (after: number, index: number): Chunk => ({
    after,
    index,
    at: now,
    step: "model#1",
    attempt: 1,
    part: `${after}.${index}`,
  });
  const write = (run: string, more: Partial<Append> = {}) =>
    store.append({ run, worker: worker.id, epoch: 1, events: [], chunks: [], blobs: [], consumed: [], ...more });
  const begin = async (more: Partial<NewRun> = {}) => {
    const id = await create(more);
    await claim(id);
    return id;
  };
  const begun = async (next: Transition | undefined, more: Partial<NewRun> = {}, writes: Partial<Append> = {}) => {
    const id = await begin(more);
    await write(id, { events: [event(2), event(3)], ...writes });
    if (next) await write(id, { next });
    return id;
  };

  const shared = blobOf("shared");
  const succeeded = await begun({ to: "succeeded" }, { blobs: [shared, blobOf("own")] }, { chunks: [chunk(3, 1), chunk(3, 2)] });
  const failed = await begun({ to: "failed" }, { principal: bob, start: { key: "k\\1", hash: "h1" } }, { blobs: [shared] });
  const cancelled = await begun({ to: "cancelled" });
  const expired = await begun({ to: "expired" });
  const parent = await begun(undefined, { start: { key: "k1", hash: "h2" } });
  const called = { run: parent, step: "call", worker: worker.id, epoch: 1 };
  const child = await begun({ to: "parked", reason: "timer", dueAt: now + 60_000 }, { parent: called, priority: 1 });
  await write(parent, { next: { to: "parked", reason: "child", dueAt: null } });
  const parked = await begin();
  await store.signal({ id: "s1", run: parked, kind: "signal", name: "seen", value: { a: 1 } });
  await store.signal({ id: "s2", run: parked, kind: "signal", name: "kept", value: ["\0"], from: "bob" });
  await write(parked, { events: [event(2)], consumed: ["s1"], seen: ["s2"], next: { to: "parked", reason: "signal", dueAt: null } });

  const asking = await begin();
  const request: ApprovalRow["request"] = {
    ...{ kind: "tool", name: "refund", step: "tool:1", agent: "support", session: null, user: alice.user, input: { note: "\0 \ud800 \\" } },
    ...{ hash: "h", tool: "t", rules: "r", why: "why", spent: { modelSteps: 1, inputTokens: 1, outputTokens: 1 }, context: [] },
    ...{ quorum: 1, selfApproval: false, onExpire: "deny" },
  };
  const asked: ApprovalRow = {
    ...{ id: `${asking}.1`, run: asking, tenant: "acme", status: "open", version: 1, level: 0, to: ["role:finance"], requestedAt: now },
    ...{ expiresAt: null, request, votes: [], verdict: null },
  };
  const entry: AuditEntry = { tenant: "acme", action: "approval.requested", actor: { kind: "agent", id: "support" }, channel: "runtime" };
  const news = {
    id: "slack/\\1",
    tenant: "acme",
    channel: "slack",
    about: "requested" as const,
    approvals: [asked.id],
    to: ["role:finance"],
  };
  const odd = ODD.map((name) => ({ ...news, id: name, tenant: name, approvals: [] }));
  const deliveries = [news, ...odd, { ...news, id: "sent" }, { ...news, id: "dead" }, { ...news, id: "late" }];
  const aside = { opens: [asked], closes: [], audit: [entry, { ...entry, tenant: "other\\" }], deliveries };
  await write(asking, { events: [event(2)], aside, next: { to: "parked", reason: "approval", dueAt: null } });
  await store.stop({ agent: "careful", why: "a \\ reason", by: "bob" }, [entry]);
  for (const name of ODD) await store.stop({ agent: name, why: name, by: name }, [{ ...entry, tenant: name, reason: name }]);

  await store.settleDelivery("sent", { state: "sent" }, [entry]);
  await store.settleDelivery("dead", { state: "dead", why: "\0 \\" }, []);
  await store.settleDelivery("late", { state: "waiting", at: now + 60_000, why: "\0 \\" }, []);

  const turn = (busy: "queue" | "steer") => ({ id: "chat", busy, message: { text: "hello" } });
  const first = await begin({ session: turn("queue") });
  await write(first, { events: [event(2)], next: { to: "succeeded", sessionState: { mood: "fine" } } });
  const second = await begin({ session: turn("queue") });
  const third = await create({ session: turn("queue") });
  await create({ session: turn("steer"), start: { key: "steered", hash: "h3" } });
  const held = await begun(undefined, {}, { chunks: [chunk(3, 1)] });
  const later = await create({ dueAt: now + 3_600_000, agent: "other", priority: 5 });
  const queued = await create({ agent: "other" });
  return { succeeded, failed, cancelled, expired, parent, child, parked, asking, first, second, third, held, later, queued };
}

export function blobOf(text: string): Blob {
  const data = JSON.stringify(text);
  return { hash: hash("sha256", data), data };
}
