/** A real crew on a store of its own, and a server over it. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { tool } from "ai";
import { MockLanguageModelV4, simulateReadableStream } from "ai/test";
import { expect, onTestFinished } from "vitest";
import { z } from "zod";
import { agent, flow } from "../../src/agent.ts";
import { sessionState } from "../../src/call.ts";
import type { Principal } from "../../src/principal.ts";
import { type Crew, groundcrew } from "../../src/runtime.ts";
import { type ServeOptions, type Serving, serve } from "../../src/server/server.ts";
import type { RunResult, RunView } from "../../src/wire.ts";
import { until as waitUntil } from "../support/until.ts";

export const SECRET = "the-password-of-the-database";

const usage = { inputTokens: { total: 1, noCache: 1 }, outputTokens: { total: 1 } };

type Prompt = Parameters<MockLanguageModelV4["doStream"]>[0]["prompt"];
type Part = Awaited<ReturnType<MockLanguageModelV4["doStream"]>>["stream"] extends ReadableStream<infer P> ? P : never;

function model(answer: (prompt: Prompt) => Part[]): MockLanguageModelV4 {
  const finishReason = { unified: "stop" as const, raw: "stop" };
  return new MockLanguageModelV4({
    doStream: async ({ prompt }) => ({
      stream: simulateReadableStream<Part>({
        chunkDelayInMs: null,
        initialDelayInMs: null,
        chunks: [{ type: "stream-start", warnings: [] }, ...answer(prompt), { type: "finish", finishReason, usage: usage as never }],
      }),
    }),
  });
}

function text(delta: string): Part[] {
  return [
    { type: "text-start", id: "t" },
    { type: "text-delta", id: "t", delta },
    { type: "text-end", id: "t" },
  ];
}

/** Says back what the user said last. */
const parrot = agent("parrot", { model: model((prompt) => text(saidLast(prompt))) });

/** Keeps a date in its session. */
const clock = agent("clock", {
  model: model((prompt) =>
    prompt.at(-1)?.role === "tool" ? text("Kept.") : [{ type: "tool-call", toolCallId: "call_1", toolName: "keep", input: "{}" }],
  ),
  tools: { keep: tool({ inputSchema: z.object({}), execute: async () => sessionState("seen", new Date(1)).set(new Date(0)) }) },
});

function saidLast(prompt: readonly { role: string; content: unknown }[]): string {
  const content = prompt.findLast(({ role }) => role === "user")?.content;
  return (content as { type: string; text?: string }[]).map(({ text }) => text ?? "").join("");
}

const echo = flow("echo", async (_ctx, input: unknown) => input);
const rich = flow("rich", async () => ({
  at: new Date(0),
  many: 12n ** 20n,
  names: new Map([["a", new Set([1])]]),
  bytes: new Uint8Array([1, 2]),
}));
const waits = flow("waits", async (ctx) => ctx.waitFor("go"));
const fails = flow("fails", async () => {
  throw new Error(SECRET);
});
const steps = flow("steps", async (ctx) => {
  for (const name of ["a", "b", "c"]) await ctx.step(name, { effect: "read" }, () => name);
  await ctx.waitFor("go");
  return "done";
});

/** Ends with the test. */
export function makeCrew(): Crew {
  const folder = mkdtempSync(join(tmpdir(), "groundcrew-server-"));
  const crew = groundcrew({ agents: [parrot, clock, echo, rich, waits, fails, steps], store: join(folder, "crew.db") });
  onTestFinished(async () => {
    await crew.close();
    rmSync(folder, { recursive: true, force: true });
  });
  return crew;
}

export async function start(options: ServeOptions & { crew?: Crew } = {}): Promise<{ crew: Crew; server: Serving; url: string }> {
  const { crew = makeCrew(), ...rest } = options;
  const server = await serve(crew, { port: 0, report: () => {}, ...rest });
  onTestFinished(() => server.close());
  return { crew, server, url: server.url };
}

/** Whoever the header `x-user` says: `tenant/user[/role]`. */
export function byHeader(request: Request): Principal | null {
  const [tenant, user, ...roles] = (request.headers.get("x-user") ?? "").split("/");
  return tenant && user ? { tenant, user, roles } : null;
}

export async function post(url: string, body: unknown, headers: Record<string, string> = {}): Promise<Response> {
  return fetch(url, { method: "POST", headers: { "content-type": "application/json", ...headers }, body: JSON.stringify(body) });
}

/** Starts a run over HTTP. @returns its id */
export async function startRun(
  url: string,
  name: string,
  body: unknown = { input: 1 },
  headers: Record<string, string> = {},
): Promise<string> {
  const response = await post(`${url}/v1/agents/${name}/runs`, body, headers);
  expect(response.status, await response.clone().text()).toBe(202);
  return ((await response.json()) as { id: string }).id;
}

/** Where the run is. */
export async function viewOf(url: string, run: string, headers: Record<string, string> = {}): Promise<RunView> {
  return (await fetch(`${url}/v1/runs/${run}`, { headers })).json() as Promise<RunView>;
}

/** How the run ended, when it has. */
export async function resultOf(url: string, run: string): Promise<RunResult> {
  const response = await fetch(`${url}/v1/runs/${run}/result?wait=10000`);
  expect(response.status).toBe(200);
  return response.json() as Promise<RunResult>;
}

/** Fails when the condition does not come true in time. */
export async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  await waitUntil(`this is true: ${condition}`, condition);
}

/** The failure an answer carries. */
export async function failureOf(response: Response): Promise<{ code: string; message: string; detail?: string; reference?: string }> {
  return ((await response.json()) as { error: { code: string; message: string } }).error;
}
