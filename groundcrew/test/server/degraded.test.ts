/** What a user is told, over HTTP, of an answer that was made without something. */
import { tool } from "ai";
import { expect, onTestFinished, test } from "vitest";
import { z } from "zod";
import { agent } from "../../src/agent.ts";
import { groundcrew } from "../../src/runtime.ts";
import { tempStore } from "../support/crew.ts";
import { type Answer, call, results, scripted } from "../support/model.ts";
import { byHeader, SECRET, start, startRun, until, viewOf } from "./fixture.ts";

const alice = { "x-user": "acme/alice" };
const operator = { "x-user": "acme/olga/operator" };

function crewWith(script: Answer[], optional: boolean) {
  const model = scripted(script);
  const search = tool({
    inputSchema: z.object({}),
    execute: async (): Promise<string> => {
      throw new Error(SECRET);
    },
  });
  const finder = agent("finder", { model, tools: { search }, policy: { search: { effect: "read", optional } } });
  const crew = groundcrew({ agents: [finder], store: tempStore(), onTrouble: () => {} });
  onTestFinished(() => crew.close());
  return { crew, model };
}

async function read(url: string, path: string, headers: Record<string, string>): Promise<string> {
  return (await fetch(`${url}/v1/runs/${path}`, { headers })).text();
}

test("an optional tool that is down: the model works around it, and the user sees what is missing, in text, status and metadata", async () => {
  const { crew, model } = crewWith([{ calls: [call("search", {})] }, "From what I know: 42."], true);
  const { url } = await start({ crew, authenticate: byHeader });
  const id = await startRun(url, "finder", { prompt: "How many?" }, alice);
  await until(async () => (await viewOf(url, id, alice)).status === "succeeded");

  expect(results(model.doStreamCalls[1]?.prompt ?? [])["call-search"]).toEqual({
    type: "json",
    value: { unavailable: true, tool: "search", reason: "error", message: SECRET },
  });
  const stream = await read(url, `${id}/ui`, alice);
  expect(stream).toContain("Going on without search.");
  expect(stream).toContain('"messageMetadata":{"degraded":[{"name":"search"}]}');
  const hers = await viewOf(url, id, alice);
  expect([hers.summary, hers.degraded]).toEqual(["Done, without search.", [{ name: "search", reason: "unavailable" }]]);
  for (const path of [id, `${id}/events`, `${id}/ui`, `${id}/result`]) expect(await read(url, path, alice)).not.toContain(SECRET);
  expect((await viewOf(url, id, operator)).degraded).toEqual([{ name: "search", reason: "error" }]);
  expect(await read(url, `${id}/events`, operator)).toContain(SECRET);
});

test("a tool that the run cannot do without: the run waits, and says so to each in their words", async () => {
  const { crew } = crewWith([{ calls: [call("search", {})] }], false);
  const { url } = await start({ crew, authenticate: byHeader });
  const id = await startRun(url, "finder", { prompt: "How many?" }, alice);
  await until(async () => (await viewOf(url, id, alice)).status === "parked");

  const hers = await viewOf(url, id, alice);
  expect([hers.reason, hers.code, hers.degraded]).toEqual(["attention", "RETRIES_EXHAUSTED", []]);
  expect(hers.summary).toBe("A service that is needed is not available. An operator has to look at it.");
  const { summary } = await viewOf(url, id, operator);
  expect(summary).toContain(`"search" has failed once, the last time with: ${SECRET} (error)`);
  expect(summary).toMatch(/`retry` gives it all its attempts again.*`fork`.*`cancel`/);
});
