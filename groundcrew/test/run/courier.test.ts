/** The courier, on a real store and with a real endpoint: what is to be told arrives, whatever fails on the way. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { isError } from "../../src/errors.ts";
import {
  COURIER_REST_MS,
  DELIVERY_LEASE_MS,
  DELIVERY_PATIENCE_MS,
  DELIVERY_TIMEOUT_MS,
  MAX_CHANNEL_SENDS,
  REFUSED_DELIVERY_MS,
  UNKNOWN_CHANNEL_MS,
} from "../../src/limits.ts";
import { type Notice, type NotifyChannel, notSent } from "../../src/notify/channel.ts";
import { readLink } from "../../src/notify/link.ts";
import { webhook } from "../../src/notify/webhook.ts";
import type { ApprovalRow } from "../../src/persistence/approval.ts";
import type { AuditRecord } from "../../src/persistence/audit.ts";
import type { DeliveryAbout, NewDelivery } from "../../src/persistence/delivery.ts";
import type { Event } from "../../src/persistence/event.ts";
import { thisWorker } from "../../src/persistence/host.ts";
import { newRunId } from "../../src/persistence/id.ts";
import type { Store } from "../../src/persistence/store.ts";
import { Courier, type CourierDeps } from "../../src/run/courier.ts";
import { openSqlite } from "../../src/sqlite/open.ts";
import { People, type PersonOptions } from "../../src/supervision/people.ts";
import { FakeClock } from "../../src/testing/clock.ts";
import { approvalRow, listen, serve, status } from "../notify/ground.ts";
import { until, within } from "../support/until.ts";

const WEBHOOK_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const LINK_SECRET = "0123456789abcdef0123456789abcdef";
const HOUR = 60 * 60_000;

const PEOPLE: Record<string, PersonOptions> = {
  ana: { roles: ["finance"], email: "ana@example.com" },
  bo: { roles: ["finance"] },
  customer: { roles: ["finance"], email: "customer@example.com" },
  olga: { roles: ["operator"], email: "olga@example.com" },
};

interface Ground {
  file: string;
  store: Store;
  clock: FakeClock;
  troubles: unknown[];
  /** A courier that ends with the test. */
  courier(channels: readonly NotifyChannel[], more?: Partial<CourierDeps>): Courier;
  /** Records `rows`, and news of them. */
  tell(news: Partial<NewDelivery>[], ...rows: ApprovalRow[]): Promise<void>;
  audit(): Promise<AuditRecord[]>;
  /** Lets time pass, in steps, with room for real answers, until something is so. */
  passing(stepMs: number, what: string, condition: () => unknown): Promise<void>;
}

/** @param pollMs how often the store looks for what other processes write: a day on this clock would be millions of looks. */
async function ground(pollMs = HOUR): Promise<Ground> {
  const folder = mkdtempSync(join(tmpdir(), "groundcrew-courier-"));
  const file = join(folder, "crew.db");
  const clock = new FakeClock();
  const store = await openSqlite(file, { clock, pollMs });
  const couriers: Courier[] = [];
  const troubles: unknown[] = [];
  onTestFinished(async () => {
    let isStopped = false;
    const stopped = Promise.all(couriers.map((courier) => courier.stop())).then(() => {
      isStopped = true;
    });
    while (!isStopped) await clock.advance(500); // one that hangs is waited for by this clock
    await stopped;
    await store.close();
    rmSync(folder, { recursive: true, force: true });
  });
  return {
    file,
    store,
    clock,
    troubles,
    courier(channels, more = {}) {
      const people = new People(PEOPLE);
      const onTrouble = (error: unknown) => void troubles.push(error);
      const deps = {
        store,
        clock,
        channels,
        people,
        url: "https://agents.example.com/",
        secret: LINK_SECRET,
        onTrouble,
        random: () => 0.5,
      };
      const courier = new Courier({ ...deps, ...more });
      couriers.push(courier);
      courier.start();
      return courier;
    },
    tell: (news, ...rows) => tell(store, clock, news, rows),
    async audit() {
      const stored = await store.audit("default", 0, 1_000);
      return stored.map(({ record }) => JSON.parse(record) as AuditRecord);
    },
    async passing(stepMs, what, condition) {
      await until(what, async () => {
        if (condition()) return true;
        await clock.advance(stepMs);
        return condition();
      });
    },
  };
}

async function tell(store: Store, clock: { now(): number }, news: Partial<NewDelivery>[], rows: readonly ApprovalRow[]): Promise<void> {
  const id = rows[0]?.run ?? newRunId(clock.now());
  const [principal, deadline] = [{ tenant: "default", user: "customer", roles: [] }, clock.now() + 30 * 24 * HOUR];
  const created: Event = { type: "run.created", agent: "support", principal, deadline, seq: 1, at: clock.now() };
  await store.create({ id, agent: "support", principal, deadline, dueAt: clock.now(), events: [created], blobs: [] });
  const identity = thisWorker();
  await store.join(identity, 60_000);
  const [claim] = await store.claim(identity.id, ["support"], 1);
  if (claim?.run.id !== id) throw new Error("Another run was claimed.");
  const deliveries = news.map((one) => ({ ...newsOf(one.channel ?? "hook", rows), ...one }));
  await store.append({
    run: id,
    worker: identity.id,
    epoch: claim.epoch,
    events: [{ type: "run.claimed", worker: identity.id, epoch: claim.epoch, takeover: false, seq: 2, at: clock.now() }],
    chunks: [],
    blobs: [],
    consumed: [],
    next: { to: "parked", reason: "approval", dueAt: null },
    aside: { opens: rows, closes: [], audit: [], deliveries },
  });
}

function newsOf(channel: string, rows: readonly ApprovalRow[]): NewDelivery {
  const about: DeliveryAbout = "requested";
  const approvals = rows.map(({ id }) => id);
  return { id: `${channel}/${about}/${approvals[0]}`, tenant: "default", channel, about, approvals, to: rows[0]?.to ?? [] };
}

/** A request of a run of its own. */
function row(clock: { now(): number }, more: Parameters<typeof approvalRow>[0] = {}): ApprovalRow {
  const run = newRunId(clock.now());
  return approvalRow({ id: `${run}.1`, run, requestedAt: clock.now(), expiresAt: null, ...more });
}

/** A channel in this process that remembers what it was given. */
function recording(name: string, more: Partial<NotifyChannel> = {}): NotifyChannel & { notices: Notice[] } {
  const notices: Notice[] = [];
  return { name, notices, send: async (notice) => void notices.push(notice), ...more };
}

const hook = (url: string) => webhook({ url, secret: WEBHOOK_SECRET, name: "hook" });
const actionsOf = (records: readonly AuditRecord[]) => records.map(({ action }) => action);

describe("what is to be told", () => {
  test("arrives once, and stands in the log with whom it was told", async () => {
    const { courier, tell, clock, passing, audit, store } = await ground();
    const { url, heard } = await listen(status(200));
    const asked = row(clock);
    await tell([{}], asked);
    courier([hook(url)]);
    await passing(0, "it is heard", () => heard.length > 0);
    await passing(0, "it is settled", async () => (await store.nextDelivery()) === null);
    const records = await until("it is in the log", async () => {
      const all = await audit();
      return all.length > 0 && all;
    });
    expect(records).toMatchObject([
      {
        action: "approval.notified",
        actor: { kind: "runtime" },
        approval: asked.id,
        run: asked.run,
        detail: { channel: "hook", about: "requested", delivery: `hook/requested/${asked.id}`, hash: "hash-1", to: ["ana", "bo"] },
      },
    ]);
    await clock.advance(2 * HOUR);
    expect(heard).toHaveLength(1);
  });

  test("is heard as soon as it is written, also by another process", async () => {
    const { courier, clock, file, passing } = await ground(25);
    const channel = recording("hook");
    courier([channel]);
    await clock.advance(10);
    const other = await openSqlite(file, { clock });
    onTestFinished(() => other.close());
    await tell(other, clock, [{}], [row(clock)]);
    const before = clock.now();
    await passing(10, "it is told", () => channel.notices.length === 1);
    expect(clock.now() - before).toBeLessThan(60_000); // nothing else would have woken it
  });

  test("is told by each of two couriers' processes, and each piece once", async () => {
    const { courier, tell, clock, file, passing } = await ground();
    const channel = recording("hook");
    const other = await openSqlite(file, { clock, pollMs: HOUR });
    onTestFinished(() => other.close());
    const rows = Array.from({ length: 100 }, () => row(clock));
    for (const one of rows) await tell([{}], one);
    courier([channel]);
    courier([channel], { store: other });
    await passing(50, "all is told", () => channel.notices.length >= 100);
    await clock.advance(HOUR);
    expect(new Set(channel.notices.map(({ id }) => id)).size).toBe(100);
    expect(channel.notices).toHaveLength(100);
  });

  test("is left out where it has ended before anybody heard of it, and the log says so", async () => {
    const { courier, tell, clock, passing, audit } = await ground();
    const channel = recording("hook");
    const verdict = { outcome: "denied", by: ["ana"], at: 1, channel: "api", hash: "hash-1" } as const;
    const [ended, expired] = [row(clock, { status: "denied", verdict }), row(clock, { expiresAt: clock.now() })];
    await tell([{}, { id: "hook/ended/1", about: "ended" }], ended);
    await tell([{}], expired);
    courier([channel]);
    await passing(50, "the end is told", () => channel.notices.length > 0);
    const records = await until("the rest is settled", async () => {
      const all = await audit();
      return all.length >= 3 && all;
    });
    expect(channel.notices.map(({ about }) => about)).toEqual(["ended"]);
    expect(actionsOf(records).sort()).toEqual(["approval.notified", "approval.notify.skipped", "approval.notify.skipped"]);
  });

  test("of several asked for together is of those that are still open", async () => {
    const { courier, tell, clock, passing } = await ground();
    const channel = recording("hook");
    const first = row(clock);
    const verdict = { outcome: "denied", by: ["ana"], at: 1, channel: "api", hash: "hash-1" } as const;
    await tell([{}], first, { ...first, id: `${first.run}.2`, status: "denied", verdict }, { ...first, id: `${first.run}.3` });
    courier([channel]);
    await passing(50, "it is told", () => channel.notices.length > 0);
    expect(channel.notices[0]?.approvals.map(({ id }) => id)).toEqual([first.id, `${first.run}.3`]);
  });

  test("shows what is on the table now, and not who has put it there", async () => {
    const { courier, tell, clock, passing } = await ground();
    const channel = recording("hook");
    const vote = {
      by: "bo",
      roles: [],
      approve: true,
      hash: "hash-2",
      input: { amount: 90 },
      at: 1,
      channel: "api" as const,
      reason: "why",
    };
    const asked = row(clock, { votes: [vote], request: { quorum: 2 } });
    await tell([{}], asked);
    courier([channel]);
    await passing(50, "it is told", () => channel.notices.length > 0);
    expect(channel.notices[0]?.proposal(asked)).toEqual({ hash: "hash-2", input: { amount: 90 } });
  });
});

describe("whoever is told", () => {
  test("may decide, has an address, and gets a link of their own that runs out", async () => {
    const { courier, tell, clock, passing } = await ground();
    const channel = recording("mail", { address: "email" });
    const asked = row(clock, { expiresAt: clock.now() + HOUR });
    await tell([{ channel: "mail" }], asked);
    courier([channel]);
    await passing(0, "it is told", () => channel.notices.length > 0);
    const [notice] = channel.notices as [Notice];
    expect(notice.people.map(({ user }) => user)).toEqual(["ana"]); // bo has no address; the customer may not decide on their own
    const [person] = notice.people as [Notice["people"][0]];
    const link = notice.link(asked, person) ?? "";
    expect(link).toMatch(/^https:\/\/agents\.example\.com\/v1\/link\/[\w.-]+$/);
    const read = readLink(link.split("/").at(-1) ?? "", LINK_SECRET, clock.now());
    expect(read).toEqual({ approval: asked.id, user: "ana", tenant: "default", delivery: notice.id, expires: asked.expiresAt });
    expect(notice.link(asked, { ...person, user: "customer" })).toBeUndefined();
  });

  test("gets a link for a week at most, and none without a server or a secret", async () => {
    const { courier, tell, clock, passing } = await ground();
    const channel = recording("mail", { address: "email" });
    const asked = row(clock);
    await tell([{ channel: "mail" }], asked);
    await courier([channel]);
    await passing(0, "it is told", () => channel.notices.length > 0);
    const [{ link, people }] = channel.notices as [Notice];
    const token =
      link(asked, people[0] as Notice["people"][0])
        ?.split("/")
        .at(-1) ?? "";
    expect(() => readLink(token, LINK_SECRET, clock.now() + 7 * 24 * HOUR)).toThrow("run out");
    for (const missing of [{ url: undefined }, { secret: undefined }]) {
      const other = recording("mail", { address: "email" });
      await tell([{ channel: "mail" }], row(clock));
      const bare = courier([other], missing);
      await passing(50, "it is told", () => other.notices.length + channel.notices.length > 1);
      await bare.stop();
    }
  });

  test("is an operator where nobody known is meant: the log says so, and trouble is told once, however often it is tried", async () => {
    const { courier, tell, clock, passing, audit, troubles } = await ground();
    const notices: Notice[] = [];
    const channel: NotifyChannel = {
      name: "mail",
      address: "email",
      async send(notice) {
        notices.push(notice);
        if (notices.length < 3) throw notSent("mail", "away", { status: 503 });
      },
    };
    await tell([{ channel: "mail" }], row(clock, { to: ["role:nobody-has-this"] }));
    courier([channel]);
    await passing(1_000, "it has arrived", () => notices.length >= 3);
    const records = await until("it is settled", async () => {
      const all = await audit();
      return all.length >= 2 && all;
    });
    expect(notices.map(({ people }) => people.map(({ user }) => user))).toEqual([["olga"], ["olga"], ["olga"]]);
    expect(notices[0]?.link(notices[0].approvals[0] as ApprovalRow, notices[0].people[0] as Notice["people"][0])).toBeUndefined();
    expect(actionsOf(records)).toEqual(["approval.notify.nobody", "approval.notified"]);
    expect(records[0]).toMatchObject({ detail: { to: ["role:nobody-has-this"], instead: ["olga"] } });
    expect(troubles.map(String)).toEqual([expect.stringContaining("Operators are told instead: olga")]);
  });

  test("need not be known for a webhook", async () => {
    const { courier, tell, clock, passing, troubles } = await ground();
    const { url, heard } = await listen(status(200));
    await tell([{}], row(clock, { to: ["role:from-a-token"] }));
    courier([hook(url)], { people: new People() });
    await passing(0, "it is heard", () => heard.length > 0);
    expect(troubles).toEqual([]);
  });

  test("is nobody of another tenant", async () => {
    const { courier, tell, clock, passing } = await ground();
    const channel = recording("hook");
    await tell([{}], row(clock));
    courier([channel], { people: new People({ eve: { tenant: "other", roles: ["finance", "operator"] }, ana: { roles: ["finance"] } }) });
    await passing(0, "it is told", () => channel.notices.length > 0);
    expect(channel.notices[0]?.people.map(({ user }) => user)).toEqual(["ana"]);
  });
});

describe("an endpoint that fails", () => {
  test("for a day hears of it once it is back: once, under the same id, and was not asked all the time", async () => {
    const { courier, tell, clock, passing, audit, troubles } = await ground();
    const start = clock.now();
    const taken: string[] = [];
    const { url, heard } = await listen((response, { headers }) => {
      if (clock.now() - start < 24 * HOUR) return status(503)(response);
      taken.push(String(headers["webhook-id"]));
      return status(200)(response);
    });
    await tell([{}], row(clock));
    courier([hook(url)]);
    await passing(60_000, "it has arrived", () => taken.length > 0);
    expect(clock.now() - start).toBeLessThan(26 * HOUR);
    await until("it is in the log", async () => (await audit()).length > 0);
    await clock.advance(5 * HOUR);
    expect(taken).toHaveLength(1);
    expect(new Set(heard.map(({ headers }) => headers["webhook-id"])).size).toBe(1);
    expect(heard.length).toBeGreaterThan(10);
    expect(heard.length).toBeLessThan(120);
    expect(actionsOf(await audit())).toEqual(["approval.notified"]);
    expect(troubles).toEqual([]);
  }, 60_000);

  test("and names a time is not asked before", async () => {
    const { courier, tell, clock, passing } = await ground();
    const at: number[] = [];
    const { url } = await listen((response) => {
      at.push(clock.now());
      status(at.length === 1 ? 429 : 200, { "retry-after": "300" })(response);
    });
    await tell([{}], row(clock));
    courier([hook(url)]);
    await passing(1_000, "it is asked again", () => at.length > 1);
    expect((at[1] ?? 0) - (at[0] ?? 0)).toBeGreaterThanOrEqual(300_000);
  });

  test("for good is asked again slowly, and an operator hears of it the first time", async () => {
    const { courier, tell, clock, passing, troubles } = await ground();
    const at: number[] = [];
    const { url } = await listen((response) => {
      at.push(clock.now());
      status(401)(response);
    });
    await tell([{}], row(clock));
    courier([hook(url)]);
    await passing(10_000, "it is asked again", () => at.length > 2);
    for (const index of [1, 2]) expect((at[index] ?? 0) - (at[index - 1] ?? 0)).toBeGreaterThanOrEqual(REFUSED_DELIVERY_MS);
    expect(troubles.map(String)).toEqual([expect.stringContaining("answered 401")]);
  });

  test("with 410 is never asked again: given up, in the log, and told", async () => {
    const { courier, tell, clock, passing, audit, troubles } = await ground();
    const { url, heard } = await listen(status(410));
    await tell([{}], row(clock));
    courier([hook(url)]);
    await passing(0, "it is given up", () => troubles.length > 0);
    await clock.advance(4 * 24 * HOUR);
    expect(heard).toHaveLength(1);
    expect(await audit()).toMatchObject([{ action: "approval.notify.failed", detail: { why: expect.stringContaining("410") } }]);
    expect(isError(troubles[0], "NOTIFY_FAILED")).toBe(true);
  });

  test("for three days is given up, and not before", async () => {
    const { courier, tell, clock, passing, audit, troubles } = await ground();
    const start = clock.now();
    const away: NotifyChannel = {
      name: "hook",
      async send() {
        throw notSent("hook", "away", { status: 503 });
      },
    };
    await tell([{}], row(clock));
    courier([away]);
    await passing(600_000, "it is given up", () => troubles.length > 0);
    expect(clock.now() - start).toBeGreaterThanOrEqual(DELIVERY_PATIENCE_MS);
    expect(clock.now() - start).toBeLessThan(DELIVERY_PATIENCE_MS + 3 * HOUR);
    expect(actionsOf(await audit())).toEqual(["approval.notify.failed"]);
  });

  test("that was written while no process was there, for longer than that, is tried all the same", async () => {
    const { courier, tell, clock, passing } = await ground();
    const channel = recording("hook");
    await tell([{}], row(clock));
    clock.jump(2 * DELIVERY_PATIENCE_MS);
    courier([channel]);
    await passing(0, "it is told", () => channel.notices.length > 0);
  });

  test("by never answering is left, and tried again", async () => {
    const { courier, tell, clock, passing } = await ground();
    const signals: AbortSignal[] = [];
    const deaf: NotifyChannel = { name: "hook", send: (_notice, signal) => new Promise(() => void signals.push(signal)) };
    await tell([{}], row(clock));
    courier([deaf]);
    await passing(0, "it is asked", () => signals.length === 1);
    expect(signals[0]?.aborted).toBe(false);
    await clock.advance(DELIVERY_TIMEOUT_MS);
    expect(signals[0]?.aborted).toBe(true);
    await passing(1_000, "it is asked again", () => signals.length === 2);
  });

  test.each<[string, () => Promise<void>]>([
    [
      "at once",
      () => {
        throw new Error("own");
      },
    ],
    ["with no error", () => Promise.reject(undefined)],
    [
      "with what throws when it is looked at",
      () =>
        Promise.reject(
          Object.defineProperty({}, "message", {
            get() {
              throw new Error("trap");
            },
          }),
        ),
    ],
  ])("%s is tried again like any other", async (_how, send) => {
    const { courier, tell, clock, passing } = await ground();
    let tries = 0;
    await tell([{}], row(clock));
    courier([
      {
        name: "hook",
        send: () => {
          tries++;
          return send();
        },
      },
    ]);
    await passing(10_000, "it is tried again", () => tries > 1);
  });
});

describe("a channel", () => {
  test("that is slow holds nobody else up, and is not run over", async () => {
    const { courier, tell, clock, passing } = await ground();
    let [atWork, most] = [0, 0];
    const slow: NotifyChannel = {
      name: "slow",
      send: () => {
        most = Math.max(most, ++atWork);
        return new Promise(() => {});
      },
    };
    const quick = recording("quick");
    for (let i = 0; i < 120; i++) await tell([{ channel: "slow" }], row(clock));
    clock.jump(1_000); // the slow one's are all older, and taken first
    for (let i = 0; i < 10; i++) await tell([{ channel: "quick" }], row(clock));
    const start = clock.now();
    courier([slow, quick]);
    await passing(COURIER_REST_MS, "the others are told", () => quick.notices.length === 10);
    expect(clock.now() - start).toBeLessThan(DELIVERY_TIMEOUT_MS); // before the slow one has let go of anything
    expect(most).toBe(MAX_CHANNEL_SENDS);
  }, 30_000);

  test("that is not configured here waits for a process that knows it", async () => {
    const { courier, tell, clock, passing, audit, troubles } = await ground();
    const channel = recording("new");
    await tell([{ channel: "new" }], row(clock));
    const old = courier([recording("old")]);
    await clock.advance(UNKNOWN_CHANNEL_MS / 2);
    expect(await audit()).toEqual([]);
    await old.stop();
    courier([channel]);
    await passing(1_000, "it is told", () => channel.notices.length === 1);
    expect(troubles).toEqual([]);
  });

  test("that is gone from the configuration is given up, with the reason", async () => {
    const { courier, tell, clock, passing, audit, troubles } = await ground();
    await tell([{ channel: "gone" }], row(clock));
    courier([recording("hook")]);
    await passing(60_000, "it is given up", () => troubles.length > 0);
    expect(await audit()).toMatchObject([{ action: "approval.notify.failed", detail: { why: 'no channel "gone" is configured' } }]);
    const told = troubles.length;
    await clock.advance(24 * HOUR);
    expect(troubles).toHaveLength(told);
  });
});

describe("a courier", () => {
  test("that is killed between sending and settling has another send it again, under the same id, when its lease is over", async () => {
    const { file, store, clock, tell, courier, passing } = await ground();
    const ids: unknown[] = [];
    const { promise: asked, resolve: ask } = Promise.withResolvers<void>();
    const url = await serve((request, response) => {
      ids.push(request.headers["webhook-id"]);
      request.resume();
      if (ids.length === 1)
        ask(); // it has been heard, and is not answered
      else response.end();
    });
    await tell([{}], row(clock));
    const script = join(import.meta.dirname, "courier-child.ts");
    const child = spawn(process.execPath, [script, file, url, WEBHOOK_SECRET], { stdio: ["ignore", "ignore", "inherit"] });
    onTestFinished(() => void child.kill("SIGKILL"));
    const died = once(child, "exit");
    await within("it is heard", asked);
    child.kill("SIGKILL");
    expect(await died).toEqual([null, "SIGKILL"]);
    courier([hook(url)]);
    await clock.advance(DELIVERY_LEASE_MS / 2);
    expect(ids).toHaveLength(1); // nobody else's while the lease holds
    await passing(5_000, "it is sent again", () => ids.length > 1);
    await until("it is settled", async () => (await store.nextDelivery()) === null);
    await clock.advance(2 * HOUR);
    expect(ids).toHaveLength(2);
    expect(ids[1]).toBe(ids[0]);
  });

  test("that stops lets end what is under way, and hands back what has not begun", async () => {
    const { courier, tell, clock, passing, store, audit } = await ground();
    const gates: (() => void)[] = [];
    const gated: NotifyChannel = { name: "hook", send: () => new Promise((resolve) => void gates.push(resolve)) };
    for (let i = 0; i < 6; i++) await tell([{}], row(clock));
    const one = courier([gated]);
    await passing(0, "four are under way", () => gates.length === MAX_CHANNEL_SENDS);
    const stopped = one.stop();
    for (const open of gates) open();
    await stopped;
    expect(gates).toHaveLength(MAX_CHANNEL_SENDS);
    expect(actionsOf(await audit())).toEqual(Array(MAX_CHANNEL_SENDS).fill("approval.notified"));
    expect(await store.nextDelivery()).toBeLessThanOrEqual(clock.now());
    const left = await store.takeDeliveries(10, 1);
    expect(left.map(({ failures }) => failures)).toEqual([0, 0]); // nobody's fault: the next one is not slow to try
    const heir = recording("hook");
    courier([heir]);
    await passing(50, "the rest is told", () => heir.notices.length === 2);
  });

  test("that stops does not wait for a channel that hangs: what it had is due again at once", async () => {
    const { courier, tell, clock, passing, store } = await ground();
    let isAsked = false;
    const deaf: NotifyChannel = {
      name: "hook",
      send: () => {
        isAsked = true;
        return new Promise(() => {});
      },
    };
    await tell([{}], row(clock));
    const one = courier([deaf]);
    await passing(0, "it is asked", () => isAsked);
    let isStopped = false;
    const stopped = one.stop().then(() => {
      isStopped = true;
    });
    await passing(500, "it stops", () => isStopped);
    await stopped;
    expect(await store.nextDelivery()).toBeLessThanOrEqual(clock.now());
    expect(await store.takeDeliveries(1, 1)).toMatchObject([{ failures: 0 }]); // that it stops is no failure of the channel
  });

  test("whose sending cannot be written down sends it again, under the same id: nothing counts as told that is not in the log", async () => {
    const { courier, tell, clock, passing, store, audit, troubles } = await ground();
    const channel = recording("hook");
    let fails = 1;
    const failing = new Proxy(store, {
      get(target, key) {
        if (key === "settleDelivery" && fails-- > 0) return () => Promise.reject(new Error("disk full"));
        const value = Reflect.get(target, key) as unknown;
        return typeof value === "function" ? value.bind(target) : value;
      },
    });
    await tell([{}], row(clock));
    courier([channel], { store: failing });
    await passing(10_000, "it is sent again", () => channel.notices.length === 2);
    await until("it is in the log", async () => (await audit()).length === 1);
    expect(new Set(channel.notices.map(({ id }) => id)).size).toBe(1);
    expect(troubles.map(String)).toEqual(["Error: disk full"]);
  });

  test("whose store is away tells that once, and goes on when it is back", async () => {
    const { courier, tell, clock, passing, store, troubles } = await ground();
    const channel = recording("hook");
    let isAway = true;
    const flaky = new Proxy(store, {
      get(target, key) {
        if (isAway && key === "nextDelivery") return () => Promise.reject(new Error("away"));
        const value = Reflect.get(target, key) as unknown;
        return typeof value === "function" ? value.bind(target) : value;
      },
    });
    await tell([{}], row(clock));
    courier([channel], { store: flaky });
    await clock.advance(60_000);
    isAway = false;
    await passing(1_000, "it is told", () => channel.notices.length === 1);
    expect(troubles).toHaveLength(1);
  });
});
