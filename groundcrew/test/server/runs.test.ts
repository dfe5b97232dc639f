import { describe, expect, test } from "vitest";
import { runResult, runSummary, runsPage, runView, type SessionsPage, sessionView } from "../../src/wire.ts";
import { failureOf, post, resultOf, start, startRun, until, viewOf } from "./fixture.ts";

describe("a run over HTTP", () => {
  test("is durable when 202 was sent, and says where it is", async () => {
    const { crew, url } = await start();
    const response = await post(`${url}/v1/agents/echo/runs`, { input: { a: [1] } });
    const { id } = (await response.json()) as { id: string };
    expect([response.status, response.headers.get("location")]).toEqual([202, `/v1/runs/${id}`]);
    expect((await crew.run(id)).id).toBe(id);
    expect(runResult.parse(await resultOf(url, id))).toEqual({ id, status: "succeeded", output: { a: [1] } });
    const view = runView.parse(await (await fetch(`${url}/v1/runs/${id}`)).json());
    expect(view).toMatchObject({ id, agent: "echo", status: "succeeded", principal: { user: "local" } });
  });

  test("keeps NUL, lone surrogates and megabytes of a prompt as they were sent", async () => {
    const { url } = await start();
    const prompt = `a\u0000b\ud800c\u2028${"ü".repeat(2_000_000)}`;
    const id = await startRun(url, "parrot", { prompt });
    const { output } = await resultOf(url, id);
    expect(output === prompt).toBe(true); // not `toBe`: it would print megabytes
  });

  test("with values that JSON lacks answers with what a person would write", async () => {
    const { url } = await start();
    const id = await startRun(url, "rich");
    const { output } = await resultOf(url, id);
    expect(output).toEqual({ at: "1970-01-01T00:00:00.000Z", many: String(12n ** 20n), names: { a: [1] }, bytes: "AQI=" });
  });

  test("that has not ended answers 202 within the wait, and is not touched by whoever stops waiting", async () => {
    const { url } = await start();
    const id = await startRun(url, "waits");
    const early = await fetch(`${url}/v1/runs/${id}/result?wait=50`);
    expect(early.status).toBe(202);
    await expect(fetch(`${url}/v1/runs/${id}/result?wait=10000`, { signal: AbortSignal.timeout(50) })).rejects.toThrow();
    expect((await post(`${url}/v1/runs/${id}/signal`, { name: "go", value: { ok: true } })).status).toBe(202);
    expect(await resultOf(url, id)).toEqual({ id, status: "succeeded", output: { ok: true } });
  });

  test("can be cancelled, retried and forked", async () => {
    const { url } = await start();
    const id = await startRun(url, "steps");
    await until(async () => (await viewOf(url, id)).status === "parked");
    const journal = (await (await fetch(`${url}/v1/runs/${id}/journal`)).json()) as { events: { step?: string; name?: string }[] };
    const from = journal.events.find(({ name }) => name === "b")?.step;
    expect((await post(`${url}/v1/runs/${id}/fork`, { from })).status).toBe(202);
    expect(await failureOf(await post(`${url}/v1/runs/${id}/fork`, { from: "no such step" }))).toMatchObject({ code: "STEP_NOT_FOUND" });
    expect((await post(`${url}/v1/runs/${id}/cancel`, { why: "enough" })).status).toBe(202);
    expect((await resultOf(url, id)).status).toBe("cancelled");
    const again = await post(`${url}/v1/runs/${id}/cancel`, {});
    expect([again.status, (await failureOf(again)).code]).toEqual([409, "RUN_FINISHED"]);
    expect((await post(`${url}/v1/runs/${id}/retry`, {})).status).toBe(202);
  });

  test("is listed, newest first, page by page, none twice", async () => {
    const { url } = await start();
    const ids: string[] = [];
    for (let i = 0; i < 5; i++) ids.push(await startRun(url, "echo"));
    const seen: string[] = [];
    let before = "";
    do {
      const page = runsPage.parse(await (await fetch(`${url}/v1/runs?limit=2${before}`)).json());
      for (const run of page.runs) seen.push(runSummary.parse(run).id);
      before = page.next === null ? "" : `&before=${page.next}`;
    } while (before !== "");
    expect(seen).toEqual(ids.toReversed());
  });

  test("is found by its status, also by several", async () => {
    const { url } = await start();
    const [waiting, done] = [await startRun(url, "waits"), await startRun(url, "echo")];
    await until(async () => (await viewOf(url, waiting)).status === "parked");
    await resultOf(url, done);
    const ids = async (query: string) => runsPage.parse(await (await fetch(`${url}/v1/runs?${query}`)).json()).runs.map(({ id }) => id);
    expect(await ids("status=parked")).toEqual([waiting]);
    expect(await ids("status=parked&status=succeeded")).toEqual([done, waiting]);
    expect(await ids("agent=echo")).toEqual([done]);
  });
});

describe("an idempotency key", () => {
  test("with the same request is the same run, with another request a conflict", async () => {
    const { url } = await start();
    const key = { "idempotency-key": "order-1" };
    const first = await startRun(url, "echo", { input: { a: 1, b: 2 } }, key);
    expect(await startRun(url, "echo", { input: { b: 2, a: 1 } }, key)).toBe(first);
    const other = await post(`${url}/v1/agents/echo/runs`, { input: 2 }, key);
    expect([other.status, (await failureOf(other)).code]).toEqual([409, "START_CONFLICT"]);
  });
});

describe("a session", () => {
  test("shows its state, its open turns and its conversation", async () => {
    const { url } = await start();
    const id = await startRun(url, "parrot", { prompt: "hello", session: "s 1/ü" });
    await resultOf(url, id);
    const path = `${url}/v1/sessions/${encodeURIComponent("s 1/ü")}`;
    const session = sessionView.parse(await (await fetch(path)).json());
    expect(session).toMatchObject({ id: "s 1/ü", agent: "parrot", turns: 1, open: [] });
    const { messages } = (await (await fetch(`${path}/messages`)).json()) as { messages: { role: string }[] };
    expect(messages.map(({ role }) => role)).toEqual(["user", "assistant"]);
    const { sessions } = (await (await fetch(`${url}/v1/sessions`)).json()) as { sessions: { id: string }[] };
    expect(sessions.map((one) => one.id)).toEqual(["s 1/ü"]);
  });

  test("is listed once, page by page, whatever stands in its name", async () => {
    const { url } = await start();
    for (const session of ["a:b", "c #d/e", "f:1:g"]) await resultOf(url, await startRun(url, "parrot", { prompt: "hello", session }));
    const listed: string[] = [];
    for (let before = ""; ; ) {
      const { sessions, next } = (await (await fetch(`${url}/v1/sessions?limit=1${before}`)).json()) as SessionsPage;
      listed.push(...sessions.map(({ id }) => id));
      if (next === null) break;
      before = `&before=${encodeURIComponent(next)}`;
    }
    expect(listed).toEqual(["f:1:g", "c #d/e", "a:b"]);
    expect((await fetch(`${url}/v1/sessions?before=nonsense`)).status).toBe(400);
  });

  test("shows what its tools keep as they meant it, not as it is stored", async () => {
    const { url } = await start();
    await resultOf(url, await startRun(url, "clock", { prompt: "Keep it.", session: "s1" }));
    const session = sessionView.parse(await (await fetch(`${url}/v1/sessions/s1`)).json());
    expect(session.state).toEqual({ seen: "1970-01-01T00:00:00.000Z" });
  });
});
