import { connect } from "node:net";
import { createParser, type EventSourceMessage } from "eventsource-parser";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import { feedItem } from "../../src/wire.ts";
import { failureOf, makeCrew, post, start, startRun, until, viewOf } from "./fixture.ts";

interface Follower {
  frames: EventSourceMessage[];
  /** Resolves when the server closes. */
  closed: Promise<void>;
  leave: () => void;
}

async function follow(url: string, run: string, headers: Record<string, string> = {}, query = ""): Promise<Follower> {
  const left = new AbortController();
  const response = await fetch(`${url}/v1/runs/${run}/events${query}`, { headers, signal: left.signal });
  expect([response.status, response.headers.get("content-type")]).toEqual([200, "text/event-stream; charset=utf-8"]);
  const frames: EventSourceMessage[] = [];
  const parser = createParser({ onEvent: (event) => frames.push(event) });
  const read = async () => {
    for await (const text of (response.body as ReadableStream<Uint8Array>).pipeThrough(new TextDecoderStream())) parser.feed(text);
  };
  return { frames, closed: read().catch(() => {}), leave: () => left.abort() };
}

const ids = (frames: readonly EventSourceMessage[]) => frames.map(({ id }) => id);

describe("the feed of a run", () => {
  test("has each item once, in order, with its cursor and type, and ends exactly once", async () => {
    const { url } = await start();
    const run = await startRun(url, "parrot", { prompt: "hello" });
    const { frames, closed } = await follow(url, run);
    await closed;
    for (const { id, event, data } of frames) {
      const item = feedItem.parse(JSON.parse(data));
      expect([item.cursor, item.type]).toEqual([id, event]);
    }
    expect(new Set(ids(frames)).size).toBe(frames.length);
    const seqs = frames.filter(({ event }) => event !== "chunk").map(({ data }) => JSON.parse(data).seq);
    expect(seqs).toEqual(seqs.map((_, i) => i + 1));
    expect(frames.filter(({ event }) => event === "run.succeeded")).toEqual([frames.at(-1)]);
    expect(frames.some(({ event }) => event === "chunk")).toBe(true);
  });

  test("is the same from every cursor, by header and by query, and for any number of readers", async () => {
    const { url } = await start();
    const run = await startRun(url, "parrot", { prompt: "hello" });
    const whole = await follow(url, run);
    await whole.closed;
    const readers = ids(whole.frames.slice(0, -1)).flatMap((id, i) =>
      [
        follow(url, run, { "last-event-id": id ?? "" }),
        follow(url, run, {}, `?after=${id}`),
        follow(url, run, { "last-event-id": id ?? "" }, "?after=1"),
      ].map(async (follower) => {
        const { frames, closed } = await follower;
        await closed;
        expect(frames).toEqual(whole.frames.slice(i + 1));
      }),
    );
    await Promise.all(readers);
  });

  test("answers 204 behind the end, so that an EventSource stops coming back", async () => {
    const { url } = await start();
    const run = await startRun(url, "echo");
    const { frames, closed } = await follow(url, run);
    await closed;
    const response = await fetch(`${url}/v1/runs/${run}/events`, { headers: { "last-event-id": frames.at(-1)?.id ?? "" } });
    expect([response.status, await response.text()]).toEqual([204, ""]);
  });

  test.each(["999", "999.1"])("refuses cursor %s that the run has not reached", async (cursor) => {
    const { url } = await start();
    for (const run of [await startRun(url, "echo"), await startRun(url, "waits")]) {
      await until(async () => ["succeeded", "parked"].includes((await viewOf(url, run)).status));
      const response = await fetch(`${url}/v1/runs/${run}/events`, { headers: { "last-event-id": cursor } });
      expect([response.status, (await failureOf(response)).code]).toEqual([400, "CURSOR_INVALID"]);
    }
  });

  test.each(["abc", "-1", "1.2.3", "1e9", " 1 x"])("refuses cursor %j that is none", async (cursor) => {
    const { url } = await start();
    const run = await startRun(url, "waits");
    const response = await fetch(`${url}/v1/runs/${run}/events?after=${encodeURIComponent(cursor)}`);
    expect([response.status, (await failureOf(response)).code]).toEqual([400, "CURSOR_INVALID"]);
  });

  test("goes on live, and a reader that leaves does not cancel the run", async () => {
    const { crew, url } = await start();
    const run = await startRun(url, "waits");
    const [stays, leaves] = [await follow(url, run), await follow(url, run)];
    await until(() => stays.frames.some(({ event }) => event === "run.parked") && leaves.frames.length > 0);
    leaves.leave();
    await leaves.closed;
    expect((await (await crew.run(run)).view()).status).toBe("parked");
    await post(`${url}/v1/runs/${run}/signal`, { name: "go" });
    await stays.closed;
    expect(stays.frames.at(-1)?.event).toBe("run.succeeded");
  });

  test("asked for with HEAD leaves no reader behind", async () => {
    const crew = makeCrew();
    const { url } = await start({ crew });
    const run = await startRun(url, "waits");
    const handle = await crew.run(run);
    let open = 0;
    crew.run = async () => {
      const events = handle.events.bind(handle);
      return Object.assign(Object.create(handle), {
        row: () => handle.row(),
        events: async function* (options: { signal: AbortSignal }) {
          open++;
          try {
            yield* events(options);
          } finally {
            open--;
          }
        },
      });
    };
    const response = await fetch(`${url}/v1/runs/${run}/events`, { method: "HEAD" });
    expect(response.status).toBe(200);
    await until(() => open === 0);
  });
});

describe("a reader that takes nothing", () => {
  test("costs a bounded number of items, whatever the run has to say, and other readers go on", async () => {
    const crew = makeCrew();
    const { url } = await start({ crew });
    const run = await startRun(url, "waits");
    const handle = await crew.run(run);
    let made = 0;
    const item = { type: "chunk", after: 1, index: 1, at: 0, step: "s", attempt: 1, part: "x".repeat(64 * 1024), cursor: "1.1" } as const;
    async function* endless() {
      for (;;) {
        made++;
        yield item;
      }
    }
    crew.run = async () => Object.assign(Object.create(handle), { row: () => handle.row(), events: endless });
    const socket = connect(Number(new URL(url).port), "127.0.0.1");
    onTestFinished(() => void socket.destroy());
    socket.pause();
    socket.write(`GET /v1/runs/${run}/events HTTP/1.1\r\nhost: localhost\r\n\r\n`);
    await until(async () => {
      const before = made;
      for (let i = 0; i < 50; i++) expect((await fetch(`${url}/healthz`)).status).toBe(200); // the server is at work meanwhile
      return made > 0 && made === before;
    });
    expect(made).toBeLessThan(500); // the sockets' own buffers: a few megabytes
  });
});

describe("a server that closes", () => {
  test("answers who waits for a result, and is gone soon", async () => {
    const { crew, server, url } = await start();
    const run = await startRun(url, "waits");
    const handle = await crew.run(run);
    const asked = vi.spyOn(handle, "result");
    crew.run = async () => handle;
    const waiting = fetch(`${url}/v1/runs/${run}/result?wait=50000`);
    await until(() => asked.mock.calls.length > 0);
    const begun = performance.now();
    await server.close();
    expect((await waiting).status).toBe(202);
    expect(performance.now() - begun).toBeLessThan(2_000);
  });

  test("ends its streams without an end of the run, soon, and the readers go on elsewhere from where they were", async () => {
    const { crew, server, url } = await start();
    const run = await startRun(url, "waits");
    const first = await follow(url, run);
    await until(() => first.frames.some(({ event }) => event === "run.parked"));
    const begun = performance.now();
    await server.close();
    await first.closed;
    expect(performance.now() - begun).toBeLessThan(2_000);
    expect(first.frames.at(-1)?.event).toBe("run.parked");
    await expect(fetch(`${url}/healthz`)).rejects.toThrow();

    const other = await start({ crew });
    const second = await follow(other.url, run, { "last-event-id": first.frames.at(-1)?.id ?? "" });
    await post(`${other.url}/v1/runs/${run}/signal`, { name: "go" });
    await second.closed;
    const uninterrupted = await follow(other.url, run);
    await uninterrupted.closed;
    expect([...first.frames, ...second.frames]).toEqual(uninterrupted.frames);
  });
});
