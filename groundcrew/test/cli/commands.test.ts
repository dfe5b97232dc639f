/** The commands, on a real store, through a real server, in real processes. */
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { LLMock } from "@copilotkit/aimock";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { project } from "./command.ts";

const library = join(import.meta.dirname, "../../src/index.ts");
const openai = import.meta.resolve("@ai-sdk/openai");
const ai = import.meta.resolve("ai");
const zod = import.meta.resolve("zod");

/** @param modelUrl a server with OpenAI's protocol. */
function agentConfig(modelUrl: string): string {
  return `
import { createOpenAI } from ${JSON.stringify(openai)};
import { tool } from ${JSON.stringify(ai)};
import { z } from ${JSON.stringify(zod)};
import { agent, groundcrew } from ${JSON.stringify(library)};

const support = agent("support", {
  model: createOpenAI({ baseURL: ${JSON.stringify(modelUrl)}, apiKey: "none" }).chat("scripted"),
  tools: { lookup: tool({ inputSchema: z.object({ id: z.string() }), execute: async ({ id }) => ({ id, evil: "\\u001b[2J" }) }) },
  policy: { lookup: { effect: "read" } },
});
export default groundcrew({ agents: [support] });
`;
}

const flowConfig = `
import { existsSync, writeFileSync } from "node:fs";
import { flow, groundcrew } from ${JSON.stringify(library)};

const hello = flow("hello", async (ctx, input: { name: string }) => {
  const greeting = await ctx.step("greet", { effect: "read" }, () => "Hello " + input.name);
  ctx.progress(0.5, "half way");
  return greeting;
});
const ask = flow("ask", async (ctx, input: string) => ({ input, reply: await ctx.waitFor<string>("reply") }));
const fail = flow("fail", async (ctx) => {
  await ctx.step("work", { effect: "read" }, () => 1);
  if (!existsSync("mended")) throw new Error("not \\u001b[31mmended");
  return "mended";
});
const crash = flow("crash", async (ctx) => ctx.step("pay", () => {
  writeFileSync("paid", "");
  process.kill(process.pid, "SIGKILL");
  return new Promise<string>(() => {});
}));
const fileAppears = (name: string) => new Promise<string>((resolve) => {
  const timer = setInterval(() => {
    if (!existsSync(name)) return;
    clearInterval(timer);
    resolve(name);
  }, 10);
});
const wait = flow("wait", async (ctx, input: string) => ctx.step("look", { effect: "idempotent" }, () => fileAppears(input)));

const patient = flow("patient", async (ctx) => (await ctx.waitFor<string>("reply", { within: "1h" })) ?? "nobody");

export default groundcrew({ agents: [hello, ask, fail, crash, wait, patient] });
`;

const model = new LLMock({ host: "127.0.0.1", port: 0 });
model.addFixture({
  match: { predicate: () => true },
  response: ({ messages }) => {
    if (messages.at(-1)?.role === "tool") return { content: "It is \u001b[1mpaid\u202e." };
    return { content: "Let me look.", toolCalls: [{ name: "lookup", arguments: '{"id":"A-7"}', id: "call_1" }] };
  },
});

let crew: ReturnType<typeof project>;

beforeAll(async () => {
  await model.start();
  crew = project({ "groundcrew.config.ts": flowConfig, "agents.config.ts": agentConfig(`${model.url}/v1`) });
});

afterEach(() => crew.stop());

afterAll(async () => {
  await crew.remove();
  await model.stop();
});

const runId = (text: string) => /run_\w+/.exec(text)?.[0] ?? "";

async function serving(...args: string[]) {
  const server = crew.start(["serve", "--port", "0", "--json", ...args]);
  const [line] = await server.until(/\{"type":"ready".*\}\n/);
  return { ...server, url: JSON.parse(line).url as string };
}

describe("on the store of the config file", () => {
  test("a run prints its result to standard output and nothing else there", async () => {
    const { code, out, err } = await crew.groundcrew("run", "hello", "--input", '{"name":"Ana"}');
    expect({ code, out }).toEqual({ code: 0, out: "Hello Ana\n" });
    expect(err).toMatch(/✓ code +greet \(read\)/);
  });

  test("an agent's answer is inert, and what it said on the way is not part of it", async () => {
    const { code, out, err } = await crew.groundcrew("run", "support", "Is A-7 paid?", "--config", "agents.config.ts");
    expect({ code, out }).toEqual({ code: 0, out: "It is ⟨U+001B⟩[1mpaid⟨U+202E⟩.\n" });
    expect(err).not.toContain("\u001b");
    const shown = await crew.groundcrew("show", runId(err));
    for (const line of [
      "asked     Is A-7 paid?",
      "said      Let me look.",
      "calls     lookup",
      "in        { id: 'A-7' }",
      "✓ succeeded after",
    ])
      expect(shown.out).toContain(line);
    expect(shown.out + (await crew.groundcrew("tail", runId(err))).out).not.toContain("\u001b");
  });

  test("the same key is the same run; with another request it is a conflict", async () => {
    const start = (name: string) => crew.groundcrew("run", "hello", "--input", JSON.stringify({ name }), "--key", "k1");
    const [first, second, other] = [await start("Bo"), await start("Bo"), await start("Cy")];
    expect(runId(second.err)).toBe(runId(first.err));
    expect(second.out).toBe("Hello Bo\n");
    expect(other).toMatchObject({ code: 4, out: "", err: expect.stringContaining("error START_CONFLICT: ") });
  });

  test("a run as JSON is one line for each thing that happened, from its id to its end", async () => {
    const { code, out } = await crew.groundcrew("run", "hello", "--input", '{"name":"Di"}', "--json");
    const items = out
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line));
    expect(code).toBe(0);
    expect(items[0]).toEqual({ type: "started", run: expect.stringMatching(/^run_/) });
    expect(items.map(({ type }) => type)).toEqual([
      "started",
      "run.created",
      "run.claimed",
      "step.started",
      "step.succeeded",
      "progress",
      "run.succeeded",
      "ended",
    ]);
    expect(items.at(-1).run).toMatchObject({ id: items[0].run, status: "succeeded", output: "Hello Di" });

    const tail = await crew.groundcrew("tail", items[0].run, "--json", "--after", items[3].cursor);
    expect(
      tail.out
        .trimEnd()
        .split("\n")
        .map((line) => JSON.parse(line)),
    ).toEqual(items.slice(4, -1));
  });

  test("a run that waits for somebody ends the command with 5 and the way on; a signal moves it", async () => {
    const { code, out, err } = await crew.groundcrew("run", "ask", "--input", '"Ready?"');
    const id = runId(err);
    expect({ code, out }).toEqual({ code: 5, out: "" });
    expect(err).toContain(`groundcrew signal ${id} reply '<json>'`);
    expect(await crew.json("runs", "--status", "parked")).toMatchObject({
      runs: [{ id, agent: "ask", status: "parked", reason: "signal" }],
    });

    expect(await crew.json("signal", id, "reply", '"yes"', "--id", "s1", "--store", ".groundcrew/crew.db")).toMatchObject({
      run: { id, status: "queued" },
    });
    const server = await serving();
    expect(await crew.groundcrew("tail", id)).toMatchObject({ code: 0 });
    server.child.kill("SIGTERM");
    expect(await server.ended).toMatchObject({ code: 0 });
    expect((await crew.json("show", id)).run.output).toEqual({ input: "Ready?", reply: "yes" });
    expect(await crew.groundcrew("signal", id, "reply")).toMatchObject({ code: 4, err: expect.stringContaining("error RUN_FINISHED: ") });
    expect(await crew.groundcrew("cancel", id)).toMatchObject({ code: 4 });
  });

  test("a run that waits for a signal only so long is followed on, and what would move it is said once", async () => {
    const following = crew.start(["run", "patient", "--input", "null"]);
    const [command = "", id = ""] = await following.until(/groundcrew signal (run_\w+) reply '<json>'/);
    expect((await crew.groundcrew("signal", id, "reply", '"here"')).code).toBe(0);
    expect(await following.ended).toMatchObject({ code: 0, out: "here\n" });
    expect(following.printed().split(command)).toHaveLength(2);
  });

  test("a run that was told to end does not look as if it went on", async () => {
    const id = runId((await crew.groundcrew("run", "ask", "--input", "1")).err);
    const { code, out } = await crew.groundcrew("cancel", id);
    expect(code).toBe(0);
    expect(out).toContain("It will be ended as soon as a worker takes it up.");
    expect(out).not.toContain("Ready to go on");
  });

  test("a flow takes no prompt, and an agent no input", async () => {
    const flow = await crew.groundcrew("run", "hello", "Ana");
    expect(flow).toMatchObject({ code: 2, err: expect.stringContaining("error INPUT_INVALID: ") });
    const agent = await crew.groundcrew("run", "support", "--input", "1", "--config", "agents.config.ts");
    expect(agent).toMatchObject({ code: 2, err: expect.stringContaining("error INPUT_INVALID: ") });
  });

  test("a run that failed ends the command with 1, and goes on from where it broke with retry", async () => {
    const failed = await crew.groundcrew("run", "fail", "--input", "null");
    const id = runId(failed.err);
    expect(failed).toMatchObject({ code: 1, out: "" });
    expect(failed.err).toContain("not ⟨U+001B⟩[31mmended");
    expect(failed.err).toContain(`groundcrew retry ${id}`);

    writeFileSync(join(crew.directory, "mended"), "");
    const { run } = await crew.json("retry", id);
    expect(run).toMatchObject({ status: "queued", forkedFrom: id });
    const fork = await crew.json("fork", id, "--from", "work");
    expect(await crew.groundcrew("fork", id, "--from", "nope")).toMatchObject({ code: 3, err: expect.stringContaining("Its steps: work") });
    const server = await serving();
    for (const next of [run.id, fork.run.id])
      expect(await crew.groundcrew("tail", next)).toMatchObject({ code: 0, out: expect.stringContaining("mended") });
    server.child.kill("SIGTERM");
    await server.ended;
  });

  test("a step whose outcome nobody saw is answered for by a person, and is not repeated", async () => {
    const killed = await crew.groundcrew("run", "crash", "--input", "null");
    const id = runId(killed.err);
    expect(existsSync(join(crew.directory, "paid"))).toBe(true);
    const server = await serving();
    const waiting = crew.start(["tail", id]);
    await waiting.until(/parked +unknown_outcome/);
    const shown = (await crew.groundcrew("show", id)).out;
    expect(shown).toContain(`groundcrew resolve ${id} pay happened|did-not-happen [--result '<json>']`);
    expect(shown.split(`groundcrew resolve ${id}`)).toHaveLength(2);
    expect((await crew.groundcrew("resolve", id, "pay", "happened", "--result", '{"paid":1}')).code).toBe(0);
    expect(await waiting.ended).toMatchObject({ code: 0, out: expect.stringMatching(/resolved +pay happened, says /) });
    expect((await crew.json("show", id)).run.output).toEqual({ paid: 1 });
    expect((await crew.groundcrew("resolve", id, "pay", "happened")).code).toBe(4);
    server.child.kill("SIGTERM");
    await server.ended;
  });

  test("what is not there is told with 3", async () => {
    expect(await crew.groundcrew("show", "run_nope")).toMatchObject({ code: 3, err: expect.stringContaining("error RUN_NOT_FOUND: ") });
    expect(await crew.groundcrew("run", "nobody", "hello")).toMatchObject({
      code: 3,
      err: expect.stringContaining("fix:  Known: hello, ask"),
    });
  });

  test("a dry clean-up says what would go and deletes nothing", async () => {
    const before = await crew.json("runs");
    expect(await crew.json("cleanup", "--dry-run")).toMatchObject({ dryRun: true, runs: 0, sessions: 0 });
    expect(await crew.json("runs")).toEqual(before);
  });
});

describe("through a server", () => {
  test("every command does what it does on the store", async () => {
    const server = await serving();
    const at = ["--url", server.url];
    expect(await crew.groundcrew("run", "hello", "--input", '{"name":"Ed"}', ...at)).toMatchObject({ code: 0, out: "Hello Ed\n" });
    const asked = await crew.groundcrew("run", "ask", "--input", "1", ...at);
    const id = runId(asked.err);
    expect(asked.code).toBe(5);
    expect(await crew.json("runs", "--status", "parked,running", ...at)).toMatchObject({ runs: [{ id }] });
    expect(await crew.json("runs", ...at)).toEqual(await crew.json("runs"));
    expect(await crew.json("cancel", id, "enough", ...at)).toMatchObject({ run: { id } });
    expect(await crew.groundcrew("tail", id, ...at)).toMatchObject({ code: 1, out: expect.stringContaining("enough") });
    expect((await crew.groundcrew("show", id, ...at)).out).toMatch(/ask {2}cancelled/);
    expect(await crew.groundcrew("show", "run_nope", ...at)).toMatchObject({ code: 3 });
    expect(await crew.groundcrew("cleanup", ...at)).toMatchObject({ code: 2 });

    const detached = await crew.groundcrew("run", "hello", "--input", '{"name":"Fi"}', "--detach", ...at);
    expect(detached.out).toMatch(/^run_\w+\n$/);
    expect(await crew.groundcrew("tail", detached.out.trim(), ...at)).toMatchObject({ code: 0 });
    server.child.kill("SIGTERM");
    await server.ended;
  });

  test("a follower whose server is gone says so once, and goes on when there is one again", async () => {
    const server = await serving();
    const follower = crew.start(["run", "wait", "--input", '"again"'], { GROUNDCREW_URL: `${server.url}/v1/` });
    await follower.until(/run_\w+/);
    server.child.kill("SIGKILL");
    await follower.until(/The server does not answer; trying again\. The run goes on by itself\./);
    writeFileSync(join(crew.directory, "again"), "");
    const next = await serving("--port", new URL(server.url).port);
    expect(await follower.ended).toMatchObject({ code: 0, out: "again\n" });
    expect(follower.printed().split("The server does not answer")).toHaveLength(2);
    next.child.kill("SIGTERM");
    await next.ended;
  });

  test("Ctrl-C stops following, not the run", async () => {
    const server = await serving();
    const follower = crew.start(["run", "wait", "--input", '"left"'], { GROUNDCREW_URL: server.url });
    const [id = ""] = await follower.until(/run_\w+/);
    follower.child.kill("SIGINT");
    const left = await follower.ended;
    expect(left).toMatchObject({ code: 130, out: "" });
    expect(left.err).toContain(`The run goes on; follow it again with: groundcrew tail ${id}`);
    writeFileSync(join(crew.directory, "left"), "");
    expect(await crew.groundcrew("tail", id, "--url", server.url)).toMatchObject({ code: 0 });
    server.child.kill("SIGTERM");
    await server.ended;
  });

  test("an address that others reach is not served without a key", async () => {
    expect(await crew.groundcrew("serve", "--host", "0.0.0.0", "--port", "0")).toMatchObject({
      code: 2,
      err: expect.stringContaining("error BIND_REFUSED: "),
    });
    const key = "0123456789abcdef";
    const server = crew.start(["serve", "--port", "0", "--json"], { GROUNDCREW_API_KEY: `${key},another-key-of-16` });
    const url = JSON.parse((await server.until(/\{"type":"ready".*\}\n/))[0]).url;
    expect(await crew.groundcrew("runs", "--url", url)).toMatchObject({ code: 2, err: expect.stringContaining("error UNAUTHENTICATED: ") });
    expect(await crew.groundcrew("runs", "--url", url, "--api-key", key)).toMatchObject({ code: 0 });
    server.child.kill("SIGTERM");
    await server.ended;
  });
});

describe("serve", () => {
  test("as api takes runs and executes none, as worker executes them", async () => {
    const api = await serving("--role", "api");
    const { out } = await crew.groundcrew("run", "hello", "--input", '{"name":"Gus"}', "--detach", "--url", api.url);
    const id = out.trim();
    expect((await crew.json("show", id, "--url", api.url)).events.some((event: { type: string }) => event.type === "run.claimed")).toBe(
      false,
    );
    const worker = crew.start(["serve", "--role", "worker", "--json"]);
    const [ready] = await worker.until(/\{"type":"ready".*\}\n/);
    expect(JSON.parse(ready)).toMatchObject({ role: "worker" });
    expect(await crew.groundcrew("tail", id, "--url", api.url)).toMatchObject({ code: 0 });
    for (const process of [api, worker]) process.child.kill("SIGTERM");
    for (const process of [api, worker]) expect(await process.ended).toMatchObject({ code: 0 });
  });

  test("lets a step in flight end at the first signal", async () => {
    const server = await serving();
    const id = await beginWaiting("patient", server.url);
    server.child.kill("SIGTERM");
    await server.until(/Stopping/);
    writeFileSync(join(crew.directory, "patient"), "");
    expect(await server.ended).toMatchObject({ code: 0 });
    expect((await crew.json("show", id)).events.filter(({ type }: { type: string }) => type === "step.succeeded")).toHaveLength(1);
  });

  test("ends at once at the second signal, and loses nothing", async () => {
    const server = await serving();
    const id = await beginWaiting("hasty", server.url);
    server.child.kill("SIGTERM");
    await server.until(/Stopping/);
    server.child.kill("SIGTERM");
    expect(await server.ended).toMatchObject({ code: 130 });
    writeFileSync(join(crew.directory, "hasty"), "");
    const next = await serving();
    expect(await crew.groundcrew("tail", id)).toMatchObject({ code: 0, out: expect.stringContaining("continued after an interruption") });
    next.child.kill("SIGTERM");
    await next.ended;
  });
});

/** Starts a run that is inside a step until the file `name` is there. @returns its id. */
async function beginWaiting(name: string, url: string): Promise<string> {
  const follower = crew.start(["run", "wait", "--input", JSON.stringify(name), "--json", "--url", url]);
  await follower.until(/"step.started"/);
  follower.child.kill("SIGINT");
  return runId((await follower.ended).out);
}

describe("dev", () => {
  test("starts again when a file of the config changes, also after one that does not load", async () => {
    const shop = project({
      "name.ts": 'export const name: string = "first";\n',
      "groundcrew.config.ts": `
import { flow, groundcrew } from ${JSON.stringify(library)};
import { name } from "./name.ts";
export default groundcrew({ agents: [flow(name, async () => name)] });
`,
    });
    try {
      const dev = shop.start(["dev", "--port", "0"]);
      const [, url = ""] = await dev.until(/groundcrew runs --url (\S+)/);
      await dev.until(/agents: first/);
      expect(dev.printed()).toContain(`groundcrew run first --input '{}' --url ${url}`);
      writeFileSync(join(shop.directory, "name.ts"), 'export const name: string = "broken";\nthrow new Error("oops");\n');
      await dev.until(/could not be loaded: oops \(file:.*name\.ts:2:/);
      await dev.until(/starts again when your code changes; /);
      writeFileSync(join(shop.directory, "name.ts"), 'export const name: string = "second";\n');
      await dev.until(new RegExp(`${url} +agents: second`));
      expect(await shop.groundcrew("run", "second", "--input", "{}", "--url", url)).toMatchObject({ code: 0, out: "second\n" });
      dev.child.kill("SIGINT");
      expect(await dev.ended).toMatchObject({ code: 0 });
    } finally {
      await shop.remove();
    }
  });

  test("starts a server again that was killed, and says by what; its run goes on", async () => {
    const shop = project({
      "groundcrew.config.ts": `
import { existsSync, writeFileSync } from "node:fs";
import { flow, groundcrew } from ${JSON.stringify(library)};
const fragile = flow("fragile", async (ctx) => ctx.step("work", { effect: "read" }, () => {
  if (existsSync("killed")) return "survived";
  setInterval(() => {
    if (!existsSync("kill")) return;
    writeFileSync("killed", "");
    process.kill(process.pid, "SIGKILL");
  }, 10);
  return new Promise<string>(() => {});
}));
export default groundcrew({ agents: [fragile] });
`,
    });
    try {
      const dev = shop.start(["dev", "--port", "0"]);
      const [, url = ""] = await dev.until(/groundcrew runs --url (\S+)/);
      const following = shop.start(["run", "fragile", "--input", "{}", "--url", url]);
      await following.until(/run_\w+/);
      writeFileSync(join(shop.directory, "kill"), "");
      expect(await following.ended).toMatchObject({ code: 0, out: "survived\n" });
      expect(dev.printed()).toContain("The server was ended by SIGKILL: starting again.");
      dev.child.kill("SIGINT");
      expect(await dev.ended).toMatchObject({ code: 0 });
    } finally {
      await shop.remove();
    }
  });

  test("ends when its port is taken, and names the option for another", async () => {
    const server = await serving();
    const { code, err } = await crew.groundcrew("dev", "--port", new URL(server.url).port);
    expect(code).toBe(2);
    expect(err).toContain("error ADDRESS_IN_USE: ");
    expect(err).toMatch(/another port.*--port/);
    server.child.kill("SIGTERM");
    await server.ended;
  });

  test("ends when there is nothing to watch", async () => {
    const empty = project();
    expect(await empty.groundcrew("dev")).toMatchObject({ code: 2, err: expect.stringContaining("There is no groundcrew.config.ts") });
    await empty.remove();
  });
});
