/**
 * Every named fault of a provider × where it strikes × every store, over the real wire: what becomes of the run, how often the
 * provider is asked and when, with which key, and what a reader sees meanwhile.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { readUIMessageStream, type UIMessage } from "ai";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { agent } from "../../src/agent.ts";
import { currentCall } from "../../src/call.ts";
import type { FailureReason } from "../../src/failure.ts";
import type { EventOf } from "../../src/persistence/event.ts";
import { isTerminal, type Store } from "../../src/persistence/store.ts";
import { type Crew, groundcrew, type Run } from "../../src/runtime.ts";
import { type FeedItem, isEnd } from "../../src/stream/feed.ts";
import { uiFrames } from "../../src/stream/ui-frame.ts";
import { FakeClock } from "../../src/testing/clock.ts";
import { dropGrounds, type Ground, groundOf, kinds } from "../crash/ground.ts";
import { flawOf } from "../crash/readers.ts";
import { ANSWER, type Called, faults, type NamedFault } from "../support/faults.ts";
import { type Provider, type ProviderRequest, startProvider } from "../support/provider.ts";
import { within } from "../support/until.ts";
import { openAt } from "./handed-store.ts";

/** How often a fault that may pass strikes before the provider is well again. */
const STRIKES = 2;

/** What the test may move the clock on while a store looks for what is due. */
const LATE_MS = 10_000;

const PATIENCE = { firstChunkMs: 30_000, chunkMs: 60_000 };

/** A person can mend these. */
const MENDABLE: readonly FailureReason[] = ["auth", "quota", "forbidden", "not_found"];

const cases = faults(0).map((fault, index) => [fault.name, fault.where, index] as const);

afterAll(dropGrounds);

describe.each(kinds)("on %s", (kind) => {
  const clock = new FakeClock();
  const folder = mkdtempSync(join(tmpdir(), "groundcrew-matrix-"));
  const keys: string[] = [];
  let ground: Ground;
  let store: Store;
  let provider: Provider;
  let crew: Crew;

  beforeAll(async () => {
    ground = await groundOf(kind, folder);
    provider = await startProvider({ now: () => clock.now() });
    store = await openAt(ground.location, clock);
    crew = groundcrew({ agents: cases.map(([, , index]) => asking(`m${index}`)), store, clock, worker: { lease: "2d" } });
    await crew.work();
  });

  afterAll(async () => {
    await crew.close();
    await store.close();
    await provider.close();
    await ground.remove();
    rmSync(folder, { recursive: true });
  });

  /** A model of its own for each fault, and with it a breaker of its own. */
  function asking(model: string) {
    return agent(model, {
      model: provider.model(model),
      timeout: PATIENCE,
      prepareCall: (options) => {
        keys.push(currentCall().key);
        return { ...options, headers: { "idempotency-key": currentCall().key } };
      },
    });
  }

  test.each(cases)("%s (%s)", async (_name, _where, index) => {
    clock.jump(1_000 - (clock.now() % 1_000)); // dates in headers are of whole seconds
    const fault = faults(clock.now())[index] as NamedFault;
    const { is, reply } = fault;
    const strikes = is === "answer" ? 0 : is !== "deadline" && is.chance === "never" ? 1 : STRIKES;
    const before = provider.requests.length;
    keys.length = 0;
    provider.script([...Array.from({ length: strikes }, () => reply), strikes === 0 ? reply : ANSWER]);

    const run = await crew.start(`m${index}`, { prompt: "What does it do?" });
    const asked = () => provider.requests.slice(before);
    const seen: FeedItem[] = [];
    const reader = read(run, seen);
    /** Whether all has come of this attempt that will. */
    const hangs = () => {
      const told = fault.where === "middle" || fault.where === "after" ? attemptsWithText(seen).size : asked().length;
      return is === "deadline" && told === asked().length && told <= strikes;
    };
    const isAsked = () => asked().length > 0;
    await letTimePass(run, { hangs, isAsked });
    if (typeof is === "object" && is.chance === "never") {
      expect(asked()).toHaveLength(1);
      if (!MENDABLE.includes(is.reason)) {
        expect(await run.view()).toMatchObject({ status: "failed", error: { code: "MODEL_FAILED" } });
        expect(verdicts(await reader)).toEqual([expect.objectContaining({ chance: is.chance, reason: is.reason })]);
        return;
      }
      expect(await run.view()).toMatchObject({ status: "parked", reason: "attention", code: "RETRIES_EXHAUSTED", dueAt: null });
      await run.retry();
      await letTimePass(run, { hangs, isAsked, notYet: "attention" });
    }

    expect(await run.view()).toMatchObject({ status: "succeeded", output: ANSWER });
    expect(asked()).toHaveLength(strikes + 1);
    expect(new Set(keys).size).toBe(1);
    expect(asked().map(({ headers }) => headers["idempotency-key"])).toEqual(keys);
    const items = await within("the reader is through", reader);
    expect(flawOf(items)).toBeUndefined();
    const called: Called = is === "deadline" ? { chance: "again", reason: "timeout" } : (is as Called);
    const { inMs, ...expected } = called;
    expect(verdicts(items)).toEqual(
      Array.from({ length: strikes }, (_, n) => expect.objectContaining(n === 0 ? expected : { reason: called.reason })),
    );
    if (called.chance !== "never") mustWait(items, asked(), inMs, is === "deadline");
    await mustTakeBack(run, items, fault);
  });

  /** Moves the clock only where the run waits for it, and where nothing but a deadline ends an attempt. */
  async function letTimePass(run: Run<unknown>, { hangs, isAsked, notYet }: Passing): Promise<void> {
    for (const end = performance.now() + 20_000; performance.now() < end; ) {
      const { status, reason, dueAt } = await run.row();
      if (isTerminal(status) || (reason === "attention" && reason !== notYet)) return;
      const left = reason === "retry" ? (dueAt ?? 0) - clock.now() : 0;
      clock.jump(left > 0 ? left : hangs() ? 10_000 : isAsked() ? 10 : 0);
      await sleep(3);
    }
    throw new Error(`Waited in vain: ${(await run.view()).summary}`);
  }
});

interface Passing {
  /** Nothing but a deadline ends what the run is at. */
  hangs: () => boolean;
  /** Until then the time is that of the script. */
  isAsked: () => boolean;
  /** A reason to be parked that is about to be over. */
  notYet?: string;
}

async function read(run: Run<unknown>, items: FeedItem[]): Promise<FeedItem[]> {
  for await (const item of run.events()) items.push(item);
  return items;
}

const failuresOf = (items: readonly FeedItem[]) =>
  items.filter((item): item is EventOf<"step.failed"> & FeedItem => item.type === "step.failed");
const verdicts = (items: readonly FeedItem[]) => failuresOf(items).map(({ failure }) => failure);

/** Never before the time that the provider has named, never after the longest back-off; and the request comes when the journal says. */
function mustWait(items: readonly FeedItem[], asked: readonly ProviderRequest[], inMs: number | undefined, byDeadline: boolean): void {
  for (const [n, { at, retryAt = Number.NaN, failure }] of failuresOf(items).entries()) {
    const backoff = 500 * 2 ** n;
    const named = n === 0 ? inMs : failure?.at === undefined ? undefined : failure.at - at;
    const least = Math.max(0, named ?? 0);
    const most = named === undefined ? backoff : least + Math.max(backoff, least / 10) + 1;
    expect(retryAt - at).toBeGreaterThanOrEqual(least);
    expect(retryAt - at).toBeLessThanOrEqual(most);
    const next = asked[n + 1]?.at ?? Number.NaN;
    expect(next).toBeGreaterThanOrEqual(retryAt);
    if (!byDeadline) expect(next - retryAt).toBeLessThan(LATE_MS);
  }
}

/** What was shown of an attempt that failed is taken back once, before anything else is shown; and no two answers stand side by side. */
async function mustTakeBack(run: Run<unknown>, items: readonly FeedItem[], { name, where, is }: NamedFault): Promise<void> {
  const withText = attemptsWithText(items);
  const saidSome = failuresOf(items).filter(({ attempt }) => withText.has(attempt));
  const hasText = is !== "answer" && (where === "middle" || where === "after") && !name.includes("reset"); // a reset may come before what was sent
  if (hasText) expect(saidSome).toHaveLength(STRIKES);
  if (where === "before" || where === "instead") expect(saidSome).toHaveLength(0);
  const shown = new Set(items.flatMap((item) => (item.type === "chunk" ? item.attempt : []))); // also an empty text has begun
  const failed = failuresOf(items).filter(({ attempt }) => shown.has(attempt));
  for (const { attempt, seq } of failed) {
    const late = items.filter((item) => item.type === "chunk" && item.attempt === attempt && item.after >= seq);
    expect(late).toEqual([]);
  }

  const chunks: unknown[] = [];
  const stream = new ReadableStream({
    async start(controller) {
      for await (const { chunk } of uiFrames(run.events(), run.id)) {
        chunks.push(chunk);
        controller.enqueue(chunk);
      }
      controller.close();
    },
  });
  let last: UIMessage | undefined;
  const whole = is === "deadline" ? ANSWER + "more ".repeat(10_000) : ANSWER;
  for await (const message of readUIMessageStream({ stream })) {
    last = message;
    expect(whole.startsWith(textOf(message)), `shown: ${textOf(message)}`).toBe(true);
  }
  expect(textOf(last)).toBe(ANSWER);
  const resets = chunks.filter((chunk) => (chunk as { type: string }).type === "reset-step");
  expect(resets).toHaveLength(failed.length);
  expect(items.filter(isEnd)).toHaveLength(1);
}

function attemptsWithText(items: readonly FeedItem[]): Set<number> {
  return new Set(items.flatMap((item) => (item.type === "chunk" && (item.part as { delta?: string }).delta ? item.attempt : [])));
}

function textOf(message: UIMessage | undefined): string {
  return (message?.parts ?? []).map((part) => (part.type === "text" ? part.text : "")).join("");
}
