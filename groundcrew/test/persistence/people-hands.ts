/** What the claims about approvals, the audit log, deliveries and stops have in common: two processes on one store, and rows to write. */
import { afterEach, beforeEach, expect } from "vitest";
import type { Amendment, ApprovalRow } from "../../src/persistence/approval.ts";
import { type AuditEntry, auditHash, GENESIS } from "../../src/persistence/audit.ts";
import type { NewDelivery } from "../../src/persistence/delivery.ts";
import type { Event } from "../../src/persistence/event.ts";
import { thisWorker } from "../../src/persistence/host.ts";
import { newRunId } from "../../src/persistence/id.ts";
import type { Append, Aside, Claim, NewRun, Store } from "../../src/persistence/store.ts";
import type { FakeClock } from "../../src/testing/clock.ts";
import type { Ground } from "./conformance.ts";

export const LEASE = 10_000;
export const principal = { tenant: "acme", user: "alice", roles: ["member"] };

/** Quotes, escapes, NUL, a mark that turns the reading direction, a line break, and more than one UTF-16 unit. */
export const NASTY = 'a"b\\c\0d\u202e\n💥';
/** Half a character: no text in any encoding. */
export const LONE = "x\ud800y";

export type Held = Claim & { worker: string };

export class Hands {
  ground!: Ground;
  clock!: FakeClock;
  store!: Store;
  /** Another process on the same store. */
  other!: Store;
  #count = 0;

  constructor(makeGround: () => Promise<Ground>) {
    beforeEach(async () => {
      this.ground = await makeGround();
      this.clock = this.ground.clock;
      [this.store, this.other] = [await this.ground.open(), await this.ground.open()];
    });
    afterEach(async () => {
      await Promise.all([this.store.close(), this.other.close()]);
      await this.ground.remove();
    });
  }

  /** A run in the hands of a worker of its own. */
  async held(more: Partial<NewRun> = {}): Promise<Held> {
    const { store } = this;
    const run = this.newRun(more);
    const agent = `support-${this.#count}`;
    await store.create({ ...run, agent });
    const worker = `worker-${this.#count}`;
    await store.join(thisWorker(worker), LEASE);
    const [claim] = await store.claim(worker, [agent], 1);
    if (!claim) throw new Error("nothing to claim");
    return { ...claim, worker };
  }

  newRun(more: Partial<NewRun> = {}): NewRun {
    const { clock } = this;
    const id = newRunId(clock.now() + ++this.#count, more.session?.id);
    const deadline = clock.now() + 86_400_000;
    const created: Event = { type: "run.created", agent: "support", principal, deadline, seq: 1, at: clock.now() };
    return { id, agent: "support", principal, deadline, dueAt: clock.now(), events: [created], blobs: [], ...more };
  }

  row({ run }: Claim, n = 1, more: Partial<ApprovalRow> = {}): ApprovalRow {
    return {
      id: `${run.id}.${n}`,
      run: run.id,
      tenant: "acme",
      status: "open",
      version: 1,
      level: 0,
      to: ["role:finance"],
      requestedAt: this.clock.now(),
      expiresAt: null,
      request: {
        kind: "tool",
        name: "refund",
        step: `tool:${n}`,
        agent: "support",
        session: null,
        user: "alice",
        input: { order: NASTY },
        hash: "h",
        tool: "t",
        rules: "r",
        why: NASTY,
        spent: { modelSteps: 1, inputTokens: 2, outputTokens: 3 },
        context: [NASTY],
        quorum: 1,
        selfApproval: false,
        onExpire: "deny",
      },
      votes: [],
      verdict: null,
      ...more,
    };
  }

  write({ run, epoch, worker }: Held, aside: Partial<Aside>, more: Partial<Append> = {}): Append {
    const event: Event = { type: "run.released", why: "asks", seq: 2, at: this.clock.now() };
    const whole = { opens: [], closes: [], audit: [], deliveries: [], ...aside };
    return { run: run.id, worker, epoch, events: [event], chunks: [], blobs: [], consumed: [], aside: whole, ...more };
  }

  /** A run that has asked for this, and waits. */
  async asked(n = 1, more: Partial<ApprovalRow> = {}): Promise<{ claim: Held; row: ApprovalRow }> {
    const claim = await this.held();
    const row = this.row(claim, n, more);
    await this.store.append(this.write(claim, { opens: [row] }, { next: { to: "parked", reason: "approval", dueAt: null } }));
    return { claim, row };
  }

  approve(row: ApprovalRow, by: string, more: Partial<Amendment> = {}): Amendment {
    const verdict = { outcome: "approved" as const, by: [by], at: this.clock.now(), channel: "api" as const, hash: "h" };
    return {
      next: { ...row, status: "approved", version: row.version + 1, verdict },
      signal: { id: `approval:${row.id}:ended`, value: { type: "approval.ended", verdict: { outcome: "approved" } } },
      audit: [entryOf("approval.approved", { actor: { kind: "person", id: by } })],
      deliveries: [],
      ...more,
    };
  }

  async actions(tenant = "acme"): Promise<string[]> {
    return (await this.other.audit(tenant, 0, 1_000)).map(({ record }) => JSON.parse(record).action);
  }

  /** @returns how long the chain is, which has to be whole. */
  async wholeChain(tenant: string, key?: string): Promise<number> {
    const records = await this.other.audit(tenant, 0, 100_000);
    let prev = GENESIS;
    for (const [index, { seq, record, hash }] of records.entries()) {
      expect(seq).toBe(index + 1);
      expect(JSON.parse(record)).toMatchObject({ seq, prev, tenant });
      expect(auditHash(record, key)).toBe(hash);
      prev = hash;
    }
    const head = (await this.other.auditHeads()).find((one) => one.tenant === tenant);
    expect(head).toEqual(records.length === 0 ? undefined : { tenant, seq: records.length, hash: prev });
    return records.length;
  }

  /** Nothing of what a write was to leave is there, and the journal ends where it did. */
  async nothingOf({ run }: Claim, seq = 1): Promise<void> {
    const { other } = this;
    expect(await other.last(run.id)).toMatchObject({ seq });
    expect(await other.approvals({ limit: 10 })).toEqual([]);
    expect(await other.audit("acme", 0, 10)).toEqual([]);
    expect(await other.auditHeads()).toEqual([]);
    expect(await other.nextDelivery()).toBeNull();
  }
}

export function entryOf(action: string, more: Partial<AuditEntry> = {}): AuditEntry {
  return { tenant: "acme", action, actor: { kind: "person", id: "ana" }, channel: "api", ...more };
}

/** What no record can hold: it is found when the transaction is half-way. */
export const unwritable: AuditEntry = entryOf("impossible", { detail: { amount: Number.NaN } });

export function news(id: string, more: Partial<NewDelivery> = {}): NewDelivery {
  return { id, tenant: "acme", channel: "slack", about: "requested", approvals: [], to: ["role:finance"], ...more };
}
