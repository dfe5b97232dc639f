import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { describe, expect, test } from "vitest";
import { flow } from "../src/agent.ts";
import { groundcrew } from "../src/runtime.ts";
import { openSqlite } from "../src/sqlite/open.ts";
import { gate, makeCrew, reaches, readAll, tempStore } from "./support/crew.ts";
import { until } from "./support/until.ts";

const one = flow("one", async (ctx) => ctx.step("a", { effect: "read" }, () => 1));
const waits = flow("waits", async (ctx) => ctx.waitFor("go"));

describe("a crew that is closed", () => {
  test("takes nothing more, says so, and may be closed again", async () => {
    const crew = makeCrew([one]);
    const run = await crew.start(one, { input: undefined });
    await run.result();
    await Promise.all([crew.close(), crew.close()]);
    await crew.close();
    for (const ask of [
      () => crew.start("one", { input: 1 }),
      () => crew.run(run.id),
      () => crew.runs(),
      () => crew.session("s"),
      () => crew.cleanup(),
      () => crew.work(),
    ]) {
      await expect(ask()).rejects.toMatchObject({ code: "CLOSED" });
    }
    expect(await crew.health()).toMatchObject({ ready: false, problems: expect.arrayContaining(["The crew was closed."]) });
  });

  test("lets a step in flight end and be recorded; the run goes on elsewhere and the step does not run again", async () => {
    const store = tempStore();
    const hold = gate();
    const began = gate();
    let ran = 0;
    const f = flow("f", async (ctx) => {
      await ctx.step("slow", async () => {
        ran++;
        began.open();
        await hold.opened;
      });
      return ctx.step("next", () => "next");
    });
    const first = makeCrew([f], { store });
    const { id } = await first.start("f", { input: null });
    await began.opened;
    const closing = first.close();
    hold.open();
    await closing;
    const second = makeCrew([f], { store });
    await second.work();
    const run = await second.run(id);
    expect(await run.result()).toBe("next");
    expect(ran).toBe(1);
    expect((await run.view()).takeovers).toBe(0);
  });

  test("leaves nobody waiting for ever: who waits for a result or follows a run is told", async () => {
    const crew = makeCrew([waits]);
    const run = await crew.start(waits, { input: undefined });
    await reaches(run, "signal");
    const waiting = [run.result(), readAll(run)].map((promise) =>
      promise.then(
        () => "ended",
        (error) => error.code,
      ),
    );
    await new Promise((tick) => setTimeout(tick, 20));
    await crew.close();
    expect(await Promise.all(waiting)).toEqual(["CLOSED", "CLOSED"]);
  });

  test("that never opened its store makes none", async () => {
    const store = tempStore();
    const crew = makeCrew([one], { store });
    await crew.close();
    expect(existsSync(store)).toBe(false);
  });

  test("does not close a store that it was given", async () => {
    const store = await openSqlite(tempStore());
    const crew = makeCrew([one], { store });
    await (await crew.start(one, { input: undefined })).result();
    await crew.close();
    expect(await store.runs({ limit: 5 })).toHaveLength(1);
    await store.close();
  });
});

describe("a reader", () => {
  test("that is told to stop stops, and one that stopped early leaves nothing behind", async () => {
    const crew = makeCrew([waits]);
    const run = await crew.start(waits, { input: undefined });
    await reaches(run, "signal");
    const stop = new AbortController();
    const seen: string[] = [];
    const reading = (async () => {
      for await (const { type } of run.events({ signal: stop.signal })) seen.push(type);
    })();
    await until("the reader has read", () => seen.length > 0);
    stop.abort();
    await reading;
    await expect(run.result({ signal: AbortSignal.abort(new Error("no time")) })).rejects.toThrow("no time");
    const waiting = run.result({ signal: AbortSignal.timeout(30) });
    await expect(waiting).rejects.toMatchObject({ name: "TimeoutError" });
    await run.signal("go", 1);
    expect(await run.result()).toBe(1);
  });

  test("in another process sees what one in this process sees", async () => {
    const store = tempStore();
    const here = makeCrew([waits], { store });
    const there = makeCrew([waits], { store, worker: false });
    const run = await here.start(waits, { input: undefined });
    const readers = [readAll(run), readAll(await there.run(run.id))];
    await reaches(run, "signal");
    await (await there.run(run.id)).signal("go", { a: new Date(0) });
    const [mine, theirs] = await Promise.all(readers);
    expect(theirs).toEqual(mine);
    expect(await readAll(run)).toEqual(mine);
  });
});

describe("two crews on one file", () => {
  test("share the work: each run is run by one, and every run ends", async () => {
    const store = tempStore();
    const ran = new Map<number, string[]>();
    const crewNamed = (name: string) =>
      makeCrew(
        [
          flow("f", async (ctx, n: number) =>
            ctx.step("a", () => {
              ran.set(n, [...(ran.get(n) ?? []), name]);
              return n;
            }),
          ),
        ],
        { store, worker: { concurrency: 4 } },
      );
    const [a, b] = [crewNamed("a"), crewNamed("b")];
    await Promise.all([a.work(), b.work()]);
    const runs = await Promise.all(Array.from({ length: 60 }, (_, n) => (n % 2 ? a : b).start("f", { input: n })));
    expect(await Promise.all(runs.map((run) => run.result()))).toEqual(Array.from({ length: 60 }, (_, n) => n));
    for (const names of ran.values()) expect(names).toHaveLength(1);
  });

  test("a crew does not take runs of agents that it does not know; they wait for one that does", async () => {
    const store = tempStore();
    const other = makeCrew([one], { store });
    await other.work();
    const front = makeCrew([waits], { store, worker: false });
    const { id } = await front.start(waits, { input: undefined });
    await (await other.start(one, { input: undefined })).result();
    expect((await (await other.run(id)).view()).status).toBe("queued");
    const knows = makeCrew([waits], { store });
    await knows.work();
    await (await knows.run(id)).signal("go", "on");
    expect(await (await knows.run(id)).result()).toBe("on");
  });
});

describe("a store that cannot be had", () => {
  test.each<[string, (path: string) => string, string | RegExp]>([
    [
      "a file that is no database",
      (path) => {
        writeFileSync(path, "hello, I am a text file, and a long one at that".repeat(100));
        return path;
      },
      /^STORE_/,
    ],
    ["a folder", (path) => dirname(path), /^STORE_/],
    [
      "a path through a file",
      (path) => {
        writeFileSync(path, "");
        return join(path, "crew.db");
      },
      /^STORE_/,
    ],
    ["a database that this release does not speak", () => "mysql://user:secret@host/db", "CONFIG_INVALID"],
  ])("%s: a typed error at the first use, and no password in it", async (_what, locate, code) => {
    const crew = groundcrew({ agents: [one], store: locate(tempStore()) });
    const error = await crew.start(one, { input: undefined }).catch((thrown) => thrown);
    expect(error).toMatchObject({ name: "GroundcrewError", code: typeof code === "string" ? code : expect.stringMatching(code) });
    expect(error.message).not.toContain("secret");
    expect((await crew.health()).ready).toBe(false);
    await crew.close();
  });

  test("a file that is no database is left as it was", async () => {
    const path = tempStore();
    writeFileSync(path, "my diary".repeat(1000));
    const crew = groundcrew({ agents: [one], store: path });
    await crew.start(one, { input: undefined }).catch(() => {});
    await crew.close();
    expect(readFileSync(path, "utf8")).toBe("my diary".repeat(1000));
  });
});

test("a process that only starts and reads never runs anything", async () => {
  const store = tempStore();
  const crew = makeCrew([one], { store, worker: false });
  const run = await crew.start(one, { input: undefined });
  await new Promise((tick) => setTimeout(tick, 100));
  expect((await run.view()).status).toBe("queued");
  expect((await crew.health()).worker).toBeNull();
});
