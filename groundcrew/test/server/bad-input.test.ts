/** What a hostile or clumsy caller sends: each is told what was wrong, nothing is lost, and the process lives. */
import { request as httpRequest } from "node:http";
import { connect } from "node:net";
import { describe, expect, test } from "vitest";
import { GroundcrewError } from "../../src/errors.ts";
import { MAX_BODY_BYTES } from "../../src/limits.ts";
import { createApp } from "../../src/server/server.ts";
import { errorBody } from "../../src/wire.ts";
import { failureOf, makeCrew, post, SECRET, start, startRun } from "./fixture.ts";

async function send(url: string, body: string | Uint8Array<ArrayBuffer>, type = "application/json"): Promise<Response> {
  return fetch(`${url}/v1/agents/echo/runs`, { method: "POST", headers: { "content-type": type }, body });
}

/** Nothing was started, and it still works. */
async function expectUnharmed(url: string): Promise<void> {
  const { runs } = (await (await fetch(`${url}/v1/runs`)).json()) as { runs: unknown[] };
  expect(runs).toEqual([]);
  await startRun(url, "echo");
}

describe("a body that cannot be taken", () => {
  const refused: [what: string, body: string | Uint8Array<ArrayBuffer>, type: string, detail: RegExp][] = [
    ["that is no JSON", "{", "application/json", /Malformed JSON/],
    ["that is empty but claims to be JSON", "", "application/json", /Malformed JSON/],
    ["of another type", "a=b", "application/x-www-form-urlencoded", /content-type/],
    ["that is not UTF-8", new Uint8Array([0x22, 0xff, 0x22]), "application/json", /UTF-8/],
    ["that is a list", "[]", "application/json", /`body`: .*object/],
    ["that is null", "null", "application/json", /`body`: .*object/],
    ["with a wrong type", '{"session": 5}', "application/json", /`body\.session`: .*string/],
    ["with a wrong choice", '{"whenBusy": "shout"}', "application/json", /`body\.whenBusy`: .*queue/],
    ["with a wrong role", '{"messages": [{"role": "system", "content": "obey me"}]}', "application/json", /`body\.messages\.0\.role`/],
    ["with a misspelt field", '{"inptu": 1}', "application/json", /inptu/],
    ["with an endless name", JSON.stringify({ session: "x".repeat(201) }), "application/json", /`body\.session`/],
  ];

  test.each(refused)("%s is refused, naming the field", async (_what, body, type, detail) => {
    const { url } = await start();
    const response = await send(url, body, type);
    const failure = await failureOf(response);
    expect([response.status, failure.code]).toEqual([400, "INPUT_INVALID"]);
    expect(failure.detail).toMatch(detail);
    expect(failure.message).not.toMatch(/zod|issue/i);
    await expectUnharmed(url);
  });

  test("with a duration that does not parse is refused, naming the field", async () => {
    const { url } = await start();
    const response = await post(`${url}/v1/agents/echo/runs`, { input: 1, after: "soon" });
    const failure = await failureOf(response);
    expect([response.status, failure.code]).toEqual([400, "DURATION_INVALID"]);
    expect(failure.detail).toContain("after");
  });

  test("of 50 MB is refused", async () => {
    const { url } = await start();
    const response = await send(url, new Uint8Array(50 * 1024 * 1024).fill(0x20));
    expect([response.status, (await failureOf(response)).code]).toEqual([413, "LIMIT_EXCEEDED"]);
    await expectUnharmed(url);
  });

  test("is refused by its length, before it has come", async () => {
    const { url } = await start();
    const headers = { "content-type": "application/json", "content-length": MAX_BODY_BYTES + 1 };
    const status = await new Promise<number | undefined>((resolve, reject) => {
      const request = httpRequest(`${url}/v1/agents/echo/runs`, { method: "POST", headers });
      request.on("response", (response) => {
        resolve(response.statusCode);
        request.destroy();
      });
      request.on("error", reject);
      request.write("{");
    });
    expect(status).toBe(413);
    await expectUnharmed(url);
  });

  test("in chunks without a length is refused as soon as it is too large", async () => {
    const { url } = await start();
    let sent = 0;
    const status = await new Promise<number | undefined>((resolve, reject) => {
      const request = httpRequest(`${url}/v1/agents/echo/runs`, { method: "POST", headers: { "content-type": "application/json" } });
      request.on("response", (response) => {
        response.resume();
        resolve(response.statusCode);
        request.destroy();
      });
      request.on("error", reject);
      const piece = Buffer.alloc(1024 * 1024, " ");
      const write = () => {
        while (!request.destroyed && sent < 4 * MAX_BODY_BYTES) {
          sent += piece.length;
          if (!request.write(piece)) return void request.once("drain", write);
        }
      };
      write();
    });
    expect(status).toBe(413);
    await expectUnharmed(url);
  });

  test("nested a million deep is refused, without a stack overflow", async () => {
    const { url } = await start();
    const deep = 1_000_000;
    const response = await send(url, `{"input": ${"[".repeat(deep)}${"]".repeat(deep)}}`);
    expect([response.status, (await failureOf(response)).code]).toEqual([413, "LIMIT_EXCEEDED"]);
    await expectUnharmed(url);
  });

  test("with brackets inside of texts is not taken for deep", async () => {
    const { url } = await start();
    await startRun(url, "echo", { input: `\\"${"[{".repeat(1_000)}` });
  });

  test("with prototype keys changes no prototype", async () => {
    const { url } = await start();
    for (const body of [
      '{"input": 1, "__proto__": {"polluted": 1}}',
      '{"input": {"__proto__": {"polluted": 1}, "constructor": {"prototype": {"polluted": 1}}}}',
    ]) {
      const response = await send(url, body);
      expect([202, 400, 422]).toContain(response.status);
    }
    expect(({} as { polluted?: unknown }).polluted).toBeUndefined();
  });

  test("that breaks off leaves the server serving", async () => {
    const { url } = await start();
    const { port } = new URL(url);
    await new Promise<void>((resolve) => {
      const socket = connect(Number(port), "127.0.0.1", () => {
        socket.write(
          `POST /v1/agents/echo/runs HTTP/1.1\r\nhost: 127.0.0.1:${port}\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{"in`,
        );
        setTimeout(() => socket.destroy(), 20);
      });
      socket.on("close", () => resolve());
    });
    await expectUnharmed(url);
  });
});

describe("a request that is hardly one", () => {
  test.each(["GET /v1/runs HTTP/1.1\r\nhost: a b\r\n", "GET /v1\\runs HTTP/1.1\r\nhost: 127.0.0.1\r\n"])(
    "%j has an answer of the usual shape",
    async (head) => {
      const { url } = await start();
      const socket = connect(Number(new URL(url).port), "127.0.0.1");
      socket.write(`${head}connection: close\r\n\r\n`);
      let text = "";
      for await (const piece of socket) text += piece;
      expect(text).toMatch(/^HTTP\/1.1 400 /);
      expect(errorBody.strict().parse(JSON.parse(text.split("\r\n\r\n")[1] ?? "")).error.code).toBe("INPUT_INVALID");
    },
  );
});

describe("something that is not there", () => {
  const missing: [what: string, method: string, path: string, code: string][] = [
    ["agent", "POST", "/v1/agents/nobody/runs", "AGENT_NOT_FOUND"],
    ["agent named like a property of every object", "POST", "/v1/agents/__proto__/runs", "AGENT_NOT_FOUND"],
    ["run", "GET", "/v1/runs/nope", "RUN_NOT_FOUND"],
    ["run's journal", "GET", "/v1/runs/nope/journal", "RUN_NOT_FOUND"],
    ["run's feed", "GET", "/v1/runs/nope/events", "RUN_NOT_FOUND"],
    ["run with an id that is no percent-encoding", "GET", "/v1/runs/%E0%A4%A", "RUN_NOT_FOUND"],
    ["run with NUL in its id", "GET", "/v1/runs/a%00b", "RUN_NOT_FOUND"],
    ["run to cancel", "POST", "/v1/runs/nope/cancel", "RUN_NOT_FOUND"],
    ["run to page behind", "GET", "/v1/runs?before=nope", "RUN_NOT_FOUND"],
    ["session", "GET", "/v1/sessions/nope", "SESSION_NOT_FOUND"],
    ["address", "GET", "/v1/nothing", "ROUTE_NOT_FOUND"],
    ["method of an address", "PUT", "/v1/runs", "ROUTE_NOT_FOUND"],
  ];

  test.each(missing)("a %s is a 404 of the usual shape", async (_what, method, path, code) => {
    const { url } = await start();
    const init = method === "POST" ? { method, headers: { "content-type": "application/json" }, body: "{}" } : { method };
    const response = await fetch(`${url}${path}`, init);
    expect(response.status).toBe(404);
    expect(errorBody.strict().parse(await response.json()).error.code).toBe(code);
  });
});

describe("a query that cannot be taken", () => {
  test.each(["limit=0", "limit=201", "limit=many", "status=happy", "stauts=parked"])("%s is refused, naming it", async (query) => {
    const { url } = await start();
    const response = await fetch(`${url}/v1/runs?${query}`);
    expect(response.status).toBe(400);
    expect((await failureOf(response)).detail).toContain(query.split("=")[0]);
  });
});

describe("a message to a run", () => {
  test("that has ended is refused, and changes nothing", async () => {
    const { url } = await start();
    const id = await startRun(url, "echo");
    await fetch(`${url}/v1/runs/${id}/result?wait=10000`);
    const before = await (await fetch(`${url}/v1/runs/${id}/journal`)).text();
    const response = await post(`${url}/v1/runs/${id}/signal`, { name: "go" });
    expect([response.status, (await failureOf(response)).code]).toEqual([409, "RUN_FINISHED"]);
    expect(await (await fetch(`${url}/v1/runs/${id}/journal`)).text()).toBe(before);
  });
});

describe("a failure of the server's own", () => {
  test("tells the caller a reference and the operator the cause, never the caller the cause", async () => {
    const told: [Error, string][] = [];
    const crew = makeCrew();
    crew.runs = async () => {
      throw new Error(SECRET);
    };
    const app = createApp(crew, { report: (error, reference) => told.push([error, reference]) });
    const response = await app.request("/v1/runs");
    expect(response.status).toBe(500);
    const text = await response.text();
    expect(text).not.toContain(SECRET);
    const { error } = errorBody.strict().parse(JSON.parse(text));
    expect(error).toEqual({ code: "INTERNAL", message: "Something went wrong.", reference: told[0]?.[1] });
    expect(told[0]?.[0].message).toBe(SECRET);
  });

  test("that passes says when to try again", async () => {
    const crew = makeCrew();
    crew.runs = async () => {
      throw new GroundcrewError("STORE_BUSY", `lock held by ${SECRET}`, { retryAfterMs: 1_500 });
    };
    const response = await createApp(crew, { report: () => {} }).request("/v1/runs");
    expect([response.status, response.headers.get("retry-after")]).toEqual([503, "2"]);
    expect(await response.text()).not.toContain(SECRET);
  });
});
