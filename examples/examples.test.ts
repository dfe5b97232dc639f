/** The examples are run as a reader would run them, against the scripted model server and the outside ledger. */
import { type SpawnOptions, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { ToolLoopAgent } from "ai";
import { groundcrew } from "groundcrew";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { type Ledger, startLedger } from "./support/ledger.ts";
import { type ModelServer, startModelServer } from "./support/model-server.ts";

const here = import.meta.dirname;
const complaint = "My order A-1042 arrived broken. I want my money back.";

let model: ModelServer;
let ledger: Ledger;
let folder: string;

beforeAll(async () => {
  model = await startModelServer({ tokensPerSecond: 1_000 });
  process.env["OPENAI_BASE_URL"] = model.url;
  process.env["OPENAI_API_KEY"] = "none";
  delete process.env["ANTHROPIC_API_KEY"];
  delete process.env["GROUNDCREW_API_KEY"];
});

afterAll(() => model.stop());

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), "groundcrew-examples-"));
  ledger = await startLedger({ file: join(folder, "ledger.jsonl"), refundMs: 1 });
  process.env["GROUNDCREW_DEMO_LEDGER_URL"] = ledger.url;
});

afterEach(async () => {
  await ledger.stop();
  rmSync(folder, { recursive: true, force: true });
});

async function run(command: string, args: string[], options: SpawnOptions = {}): Promise<{ code: number; out: string }> {
  const child = spawn(command, args, { cwd: folder, ...options, stdio: ["ignore", "pipe", "pipe"] });
  const [out, err, [code]] = await Promise.all([text(child.stdout as never), text(child.stderr as never), once(child, "exit")]);
  return { code, out: out + err };
}

const node = (file: string, options?: SpawnOptions) => run(process.execPath, [join(here, file)], options);
const kinds = () => ledger.entries().map(({ kind }) => kind);

describe("the demo", () => {
  test("holds all that it claims", async () => {
    const { OPENAI_BASE_URL: _url, OPENAI_API_KEY: _key, ...env } = process.env;
    const { code, out } = await node("demo/main.ts", { env: { ...env, NO_COLOR: "1", TMPDIR: folder } });
    expect(out).not.toContain("NOT TRUE");
    expect(out.match(/✓ /g)?.length).toBeGreaterThan(7);
    expect(code).toBe(0);
  }, 60_000);
});

describe("the quickstart", () => {
  test("answers", async () => {
    const { code, out } = await node("quickstart.ts");
    expect(out).toMatch(/with the idempotency key \S*refund\/A-1042$/m);
    expect(out).toMatch(/^\d+ run\.succeeded$/m);
    expect(out).toContain("the reference is RF-0001");
    expect(code).toBe(0);
  });

  test("answers without a key as well", async () => {
    const { OPENAI_BASE_URL: _url, OPENAI_API_KEY: _key, ...env } = process.env;
    const { code, out } = await run(process.execPath, [join(here, "support/with-model.ts"), join(here, "quickstart.ts")], { env });
    expect(out).toContain("a scripted model answers");
    expect(out).toContain("the reference is RF-0001");
    expect(code).toBe(0);
  }, 30_000);

  test("is what the README shows, word for word", () => {
    const readme = readFileSync(join(here, "../README.md"), "utf8");
    expect(readme).toContain(`\`\`\`ts\n${readFileSync(join(here, "quickstart.ts"), "utf8")}\`\`\`\n`);
  });
});

describe("adopting", () => {
  test("changes fewer than ten lines", async () => {
    const { out } = await run("git", ["diff", "--no-index", "--numstat", join(here, "adopt/before.ts"), join(here, "adopt/after.ts")]);
    const [added, removed] = out.split("\t").map(Number);
    expect(added).toBeGreaterThan(0);
    expect(Math.max(added ?? 0, removed ?? 0)).toBeLessThan(10);
  });

  test("gives the same answer with the same effects", async () => {
    const before = await node("adopt/before.ts");
    expect(kinds()).toEqual(["refund", "email"]);
    const after = await node("adopt/after.ts");
    expect(kinds()).toEqual(["refund", "email", "refund", "email"]); // another conversation, another refund
    expect([before.code, after.code]).toEqual([0, 0]);
    expect(after.out).toBe(before.out.replace("RF-0001", "RF-0002"));
  });

  test("leaves settings that an AI SDK agent still takes", async () => {
    const { settings } = await import("./support/agent.ts");
    const { support } = await import("./support/support.ts");
    expect(support.settings.tools).toBe(settings.tools);
    const { text } = await new ToolLoopAgent(support.settings as typeof settings).generate({ prompt: complaint });
    expect(text).toContain("the reference is RF-0001");
    expect(kinds()).toEqual(["refund", "email"]);
  });
});

describe("the tests of an agent under faults", () => {
  test("pass, the killed ones too", async () => {
    const { NODE_OPTIONS: _options, ...env } = process.env;
    const { code, out } = await run(process.execPath, ["--test", join(here, "testing/support.ts")], { env });
    expect(out).toMatch(/^. pass 6$/m);
    expect(out).toMatch(/^. fail 0$/m);
    expect(code).toBe(0);
  }, 60_000);
});

describe("the flow", () => {
  test("goes on in another process after its wait, and does nothing twice", async () => {
    const { support } = await import("./support/support.ts");
    const { recall } = await import("./flow.ts");
    const open = () => groundcrew({ agents: [support, recall], store: join(folder, "crew.db") });

    const first = open();
    const { id } = await first.start(recall, { input: { orders: ["A-1042", "A-1043"] } });
    await expect.poll(async () => (await first.run(id)).view(), { timeout: 10_000 }).toMatchObject({ status: "parked", reason: "signal" });
    await first.close();
    expect(kinds()).toEqual([]);

    const second = open();
    await second.work();
    const run = await second.run(id);
    await run.signal("go", { by: "Kim" });
    expect(await run.result()).toMatchObject({ refunded: 213.5, note: "Agreed by Kim." });
    expect(kinds().sort()).toEqual(["email", "email", "refund", "refund"]);
    const started = (await run.journal()).flatMap((event) => (event.type === "step.started" ? event.step : []));
    expect(started).toEqual([...new Set(started)]);
    await second.close();
  });
});
