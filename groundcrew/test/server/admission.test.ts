/** What a server does with more than it can hold. Over real HTTP. */
import { fork } from "node:child_process";
import { once } from "node:events";
import { expect, onTestFinished, test } from "vitest";
import { LOOP_LOOK_MS } from "../../src/limits.ts";
import { LoopLag } from "../../src/server/loop-lag.ts";
import { FakeClock } from "../../src/testing/clock.ts";
import { tempStore } from "../support/crew.ts";
import { failureOf, post, start, startRun, until, viewOf } from "./fixture.ts";

test("a flood is told to come back, health is answered all the while, and what is there already is answered as ever", async () => {
  const { crew, url } = await start({ most: { requests: 5 } });
  const run = await startRun(url, "waits");
  const waiting = Array.from({ length: 5 }, () => fetch(`${url}/v1/runs/${run}/result?wait=20000`));
  await until(async () => (await fetch(`${url}/v1/runs/${run}`)).status === 429);

  const flood = await Promise.all(Array.from({ length: 200 }, () => post(`${url}/v1/agents/echo/runs`, { input: "x".repeat(10_000) })));
  expect(new Set(flood.map(({ status }) => status))).toEqual(new Set([429]));
  expect(flood[0]?.headers.get("retry-after")).toBe("1");
  expect(await failureOf(flood[0] as Response)).toMatchObject({ code: "OVERLOADED" });
  expect(await crew.runs({ agent: "echo" })).toEqual([]);
  for (const path of ["/healthz", "/readyz"]) expect((await fetch(url + path)).status).toBe(200);

  await (await crew.run(run)).signal("go");
  expect((await Promise.all(waiting)).map(({ status }) => status)).toEqual([200, 200, 200, 200, 200]);
  expect((await viewOf(url, run)).status).toBe("succeeded");
});

test("a stream has a place of its own, which its reader gives back by leaving", async () => {
  const { url } = await start({ most: { requests: 2, streams: 2 } });
  const run = await startRun(url, "waits");
  const open = () => {
    const reader = new AbortController();
    return { reader, response: fetch(`${url}/v1/runs/${run}/events`, { signal: reader.signal }) };
  };
  const [first, second] = [open(), open()];
  expect((await first.response).status).toBe(200);
  expect((await second.response).status).toBe(200);
  expect((await viewOf(url, run)).status).toBe("parked"); // streams take no request's place
  expect(await failureOf(await open().response)).toMatchObject({ code: "OVERLOADED" });
  first.reader.abort();
  await until(async () => {
    const { reader, response } = open();
    const { status } = await response;
    reader.abort();
    return status === 200;
  });
  second.reader.abort();
});

test("bodies that do not say how long they are count as the longest there may be", async () => {
  const { url } = await start();
  const slow = new AbortController();
  const endless = () =>
    fetch(`${url}/v1/agents/echo/runs`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: new ReadableStream({ start: (body) => body.enqueue(Buffer.from("{")) }),
      duplex: "half",
      signal: slow.signal,
    } as RequestInit).catch(() => undefined);
  const senders = Array.from({ length: 32 }, endless); // 32 times 8 MB: all the memory that there is for bodies
  await until(async () => (await post(`${url}/v1/agents/echo/runs`, { input: 1 })).status === 429);
  slow.abort();
  await Promise.all(senders);
  await until(async () => (await post(`${url}/v1/agents/echo/runs`, { input: 1 })).status === 202);
});

test("no turn of a chat begins when there is no place for its stream", async () => {
  const { crew, url } = await start({ most: { streams: 0 } });
  const message = { id: "m1", role: "user", parts: [{ type: "text", text: "hello" }] };
  const response = await post(`${url}/v1/chat/parrot`, { id: "chat", messages: [message], trigger: "submit-message" });
  expect(await failureOf(response)).toMatchObject({ code: "OVERLOADED" });
  expect(response.headers.get("retry-after")).toBe("1");
  expect(await crew.runs()).toEqual([]);
});

test("a process that is more than a second behind takes nothing until it has caught up; health is answered", async () => {
  const { url } = await start();
  const ask = () => fetch(`${url}/v1/agents`);
  expect((await ask()).status).toBe(200); // from now on the loop is looked at
  for (const end = performance.now() + 1_500; performance.now() < end; );
  const [refused, health] = await Promise.all([ask(), fetch(`${url}/healthz`)]);
  expect(refused.status).toBe(429);
  expect(refused.headers.get("retry-after")).toBe("1");
  expect(health.status).toBe(200);
  await until(async () => (await ask()).status === 200);
});

test("a block that is over before anybody came is held against nobody", async () => {
  const clock = new FakeClock();
  const lag = new LoopLag(clock);
  expect(lag.isBehind()).toBe(false);
  await clock.advance(LOOP_LOOK_MS); // the look that it began is over
  clock.jump(60_000);
  expect(lag.isBehind()).toBe(false);
  clock.jump(60_000); // and this one stands in the way of the look that was just begun
  expect(lag.isBehind()).toBe(true);
});

test("a process holds nothing of a flood of 200 MB, and answers as ever afterwards", async () => {
  const child = fork(new URL("./flooded.ts", import.meta.url), [tempStore()], {
    execArgv: ["--expose-gc"],
    stdio: ["ignore", "inherit", "inherit", "ipc"],
  });
  onTestFinished(() => void child.kill("SIGKILL"));
  const [url] = (await once(child, "message")) as [string];
  const weigh = async (): Promise<number> => {
    child.send("weigh");
    return ((await once(child, "message")) as [number])[0];
  };
  const body = { input: "x".repeat(100_000) };
  const flood = async (times: number) => {
    const seen = new Set<number>();
    for (let i = 0; i < times; i++) {
      for (const response of await Promise.all(Array.from({ length: 50 }, () => post(`${url}/v1/agents/echo/runs`, body)))) {
        seen.add(response.status);
        await response.text();
      }
    }
    return seen;
  };
  const run = await startRun(url, "waits");
  const leaving = new AbortController();
  const waiting = Array.from({ length: 5 }, () =>
    fetch(`${url}/v1/runs/${run}/result?wait=50000`, { signal: leaving.signal }).catch(() => {}),
  );
  await until(async () => (await fetch(`${url}/v1/runs/${run}`)).status === 429);

  await flood(20); // what a process grows by once, for its connections and its code
  const before = await weigh();
  expect(await flood(40)).toEqual(new Set([429]));
  const grown = ((await weigh()) - before) / 2 ** 20;
  console.log(`flood: 2,000 requests of 100 KB were refused, and the process holds ${grown.toFixed(1)} MB more than before`);
  expect(grown).toBeLessThan(10);

  leaving.abort();
  await Promise.all(waiting);
  await until(async () => (await post(`${url}/v1/agents/echo/runs`, body)).status === 202);
});
