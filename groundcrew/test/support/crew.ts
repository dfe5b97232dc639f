/** A real crew on a store of its own, which ends with the test. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { onTestFinished } from "vitest";
import type { Definition } from "../../src/agent.ts";
import { type Crew, type CrewOptions, groundcrew, type Run, type RunView } from "../../src/runtime.ts";
import type { FeedItem } from "../../src/stream/feed.ts";
import { until } from "./until.ts";

/** A path for a store, in a folder that goes with the test. */
export function tempStore(): string {
  const folder = mkdtempSync(join(tmpdir(), "groundcrew-run-"));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  return join(folder, "crew.db");
}

export function makeCrew(agents: readonly Definition[], options: Partial<CrewOptions> = {}): Crew {
  const store = options.store ?? tempStore();
  const crew = groundcrew({ onTrouble: () => {}, ...options, agents, store });
  onTestFinished(() => crew.close());
  return crew;
}

/** Waits until the run has one of these states. */
export async function reaches(run: Run<unknown>, ...states: string[]): Promise<RunView> {
  let last: RunView | undefined;
  try {
    return await until(`the run is ${states.join(" or ")}`, async () => {
      last = await run.view();
      return states.includes(last.status) || states.includes(last.reason ?? "") ? last : undefined;
    });
  } catch (error) {
    throw new Error(`${(error as Error).message} It is: ${last?.status}, ${last?.summary}`);
  }
}

/** Everything a reader of the run sees, up to its end. */
export async function readAll(run: Run<unknown>, after?: string): Promise<FeedItem[]> {
  const items: FeedItem[] = [];
  for await (const item of run.events({ after })) items.push(item);
  return items;
}

/** A promise that the test settles. */
export function gate<T = void>(): { opened: Promise<T>; open: (value: T) => void; fail: (error: unknown) => void } {
  const { promise, resolve, reject } = Promise.withResolvers<T>();
  promise.catch(() => {}); // whoever waits for it hears of it
  return { opened: promise, open: resolve, fail: reject };
}
