import { readFileSync } from "node:fs";
import { createServer, request as httpRequest, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { dirname, join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { connect, type FeedItem } from "../../src/client/client.ts";
import { isError } from "../../src/errors.ts";
import { RECONNECT_MS } from "../../src/limits.ts";
import { runView } from "../../src/wire.ts";
import { start, until } from "../server/fixture.ts";

const KEY = "a-key-of-at-least-16-characters";

type Handler = (request: IncomingMessage, response: ServerResponse) => void;

async function listen(handler: Handler): Promise<{ url: string; server: Server }> {
  const server = createServer(handler);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, server };
}

/** Between client and server; `onStream` decides about each stream: how many bytes of it may pass before it breaks. */
async function proxy(target: string, onStream: () => number): Promise<{ url: string; streams: () => number }> {
  let streams = 0;
  const { host } = new URL(target);
  const { url } = await listen((request, response) => {
    const upstream = httpRequest(`${target}${request.url}`, { method: request.method, headers: { ...request.headers, host } }, (answer) => {
      const isStream = answer.headers["content-type"]?.startsWith("text/event-stream");
      if (isStream) streams++;
      let allowed = isStream ? onStream() : Number.POSITIVE_INFINITY;
      response.writeHead(answer.statusCode ?? 502, answer.headers);
      answer.on("data", (piece: Buffer) => {
        response.write(piece.subarray(0, Math.max(0, allowed)));
        allowed -= piece.length;
        if (allowed > 0) return;
        answer.destroy();
        setImmediate(() => response.destroy());
      });
      answer.on("end", () => response.end());
      answer.on("error", () => response.destroy());
    });
    upstream.on("error", () => response.destroy());
    request.pipe(upstream);
  });
  return { url, streams: () => streams };
}

async function collect(items: AsyncIterable<FeedItem>): Promise<FeedItem[]> {
  const all: FeedItem[] = [];
  for await (const item of items) all.push(item);
  return all;
}

describe("a client", () => {
  test("does what the API does, with the types of its contract", async () => {
    const { url } = await start({ apiKeys: [KEY] });
    const crew = connect(`${url}/`, { apiKey: KEY });
    expect((await crew.agents()).map(({ name }) => name)).toContain("parrot");
    expect(await crew.health()).toMatchObject({ ready: true, problems: [] });

    const run = await crew.start("parrot", { prompt: "hello", session: "s 1", key: "k" });
    expect((await crew.start("parrot", { prompt: "hello", session: "s 1", key: "k" })).id).toBe(run.id);
    expect(await run.result()).toBe("hello");
    expect(runView.parse(await run.view()).status).toBe("succeeded");
    expect((await run.journal()).map(({ type }) => type)).toContain("step.succeeded");
    expect((await crew.runs({ agent: "parrot", status: ["succeeded", "failed"] })).runs.map(({ id }) => id)).toEqual([run.id]);
    expect((await crew.sessions()).sessions.map(({ id }) => id)).toEqual(["s 1"]);
    expect((await crew.session("s 1")).turns).toBe(1);
    expect(await crew.messages("s 1")).toHaveLength(2);

    const waits = await crew.start("steps", { input: null });
    await until(async () => (await waits.view()).status === "parked");
    const step = (await waits.journal()).find((event) => event.type === "step.started" && event.name === "b");
    const fork = await waits.fork({ from: step?.type === "step.started" ? step.step : "" });
    await fork.signal("go", 1, { id: "once" });
    expect(await fork.result()).toBe("done");
    await waits.cancel("enough");
    await expect(waits.result()).rejects.toSatisfy((error) => isError(error, "RUN_CANCELLED"));
    expect((await waits.retry()).id).not.toBe(waits.id);
  });

  test("throws the server's errors, with their code, detail and reference", async () => {
    const { url } = await start();
    const crew = connect(url);
    const codes = async (call: Promise<unknown>) =>
      call.then(
        () => "none",
        (error) => [error.code, error.message],
      );
    expect(await codes(crew.run("nope").view())).toEqual(["RUN_NOT_FOUND", expect.stringContaining("nope")]);
    expect(await codes(crew.start("parrot", { prompt: 5 as never }))).toEqual(["INPUT_INVALID", expect.stringContaining("body.prompt")]);
    const failed = await crew.start("fails", { input: 1 });
    await expect(failed.result()).rejects.toMatchObject({ code: "FLOW_FAILED", run: failed.id });
  });

  test("says that nobody answered, or somebody else did", async () => {
    const { url, server } = await listen((_request, response) => response.writeHead(502).end("<html>"));
    await expect(connect(url).agents()).rejects.toSatisfy((error) => isError(error, "UNREACHABLE"));
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
    await expect(connect(url).agents()).rejects.toThrow(/ECONNREFUSED/);
    expect(() => connect("file:///etc/passwd")).toThrow(/http/);
  });
});

test("a result that is not there yet is not asked for at once again, and is there when it is", async () => {
  const asked: number[] = [];
  const { url } = await listen((_request, response) => {
    asked.push(performance.now());
    const [status, answer] = asked.length < 4 ? [202, { status: "running" }] : [200, { status: "succeeded", output: "done" }];
    response.writeHead(status as number, { "content-type": "application/json" }).end(JSON.stringify({ id: "r", ...(answer as object) }));
  });
  expect(await connect(url).run("r").result()).toBe("done");
  const pauses = asked.slice(1).map((at, i) => at - (asked[i] ?? 0));
  expect(pauses).toHaveLength(3);
  for (const [i, pause] of pauses.entries()) expect(pause).toBeGreaterThan((RECONNECT_MS / 2) * 2 ** i - 5);
});

test("the client loads neither Node's own modules nor the schemas: it is small enough for browsers", () => {
  const loaded = new Set<string>();
  const visit = (file: string) => {
    if (loaded.has(file)) return;
    loaded.add(file);
    const imports = /^(?:import|export) (?!type )[^;]*? from "([^"]+)"/gm;
    for (const [, target = ""] of readFileSync(file, "utf8").matchAll(imports)) {
      if (target.startsWith(".")) visit(join(dirname(file), target));
      else loaded.add(target);
    }
  };
  visit(join(import.meta.dirname, "../../src/client/client.ts"));
  const names = [...loaded].map((file) => file.split("/src/").at(-1));
  expect(names.sort()).toEqual(["client/client.ts", "client/follow.ts", "client/http.ts", "errors.ts", "eventsource-parser", "limits.ts"]);
});

describe("a follower", () => {
  test("over a connection that breaks anywhere sees each item once, in order, up to the one end", async () => {
    const { url } = await start();
    const run = await connect(url).start("parrot", { prompt: "hello" });
    const whole = await collect(run.events());
    for (const first of [500, 611, 722, 833]) {
      let bytes = first; // another place each time: inside of frames as well as between
      const broken = await proxy(url, () => (bytes += 97));
      expect(await collect(connect(broken.url).run(run.id).events())).toEqual(whole);
      expect(broken.streams()).toBeGreaterThan(1);
    }
    expect(whole.filter(({ type }) => type.startsWith("run.") && type !== "run.created" && type !== "run.claimed")).toHaveLength(1);
  });

  test("goes on from a cursor, and has nothing to tell behind the end", async () => {
    const { url } = await start();
    const run = await connect(url).start("echo", { input: 1 });
    const whole = await collect(run.events());
    expect(await collect(run.events({ after: whole[1]?.cursor ?? "" }))).toEqual(whole.slice(2));
    expect(await collect(run.events({ after: whole.at(-1)?.cursor ?? "" }))).toEqual([]);
  });

  test("follows the run over a restart of the server, on the same address", async () => {
    const { crew, server, url } = await start();
    const run = await connect(url).start("waits", { input: null });
    const seen: FeedItem[] = [];
    const following = (async () => {
      for await (const item of run.events()) seen.push(item);
    })();
    await until(() => seen.some(({ type }) => type === "run.parked"));
    await server.close();
    await start({ crew, port: Number(new URL(url).port) });
    await run.signal("go", "after the restart");
    await following;
    expect(seen).toEqual(await collect(run.events()));
  });

  test("that is told to stop ends without an error, and without ending the run", async () => {
    const { url } = await start();
    const run = await connect(url).start("waits", { input: null });
    const stop = new AbortController();
    const seen: string[] = [];
    for await (const { type } of run.events({ signal: stop.signal })) {
      seen.push(type);
      if (type === "run.parked") stop.abort();
    }
    expect(seen.at(-1)).toBe("run.parked");
    expect((await run.view()).status).toBe("parked");
  });

  test("gives up at once on what another try cannot mend", async () => {
    const { url } = await start();
    await expect(collect(connect(url).run("nope").events())).rejects.toSatisfy((error) => isError(error, "RUN_NOT_FOUND"));
    const run = await connect(url).start("echo", { input: 1 });
    await run.result();
    await expect(collect(run.events({ after: "999" }))).rejects.toSatisfy((error) => isError(error, "CURSOR_INVALID"));
  });

  test("comes back when the server says that it is about the moment, not before the time that it names", async () => {
    const { url } = await start();
    const run = await connect(url).start("echo", { input: 1 });
    const whole = await collect(run.events());
    const asked: number[] = [];
    const fetched: typeof fetch = async (...args) => {
      asked.push(performance.now());
      if (asked.length > 1) return fetch(...args);
      return Response.json({ error: { code: "STORE_BUSY", message: "busy", retry_after: 1 } }, { status: 503 });
    };
    expect(await collect(connect(url, { fetch: fetched }).run(run.id).events())).toEqual(whole);
    expect((asked[1] ?? 0) - (asked[0] ?? 0)).toBeGreaterThan(990);
  });
});
