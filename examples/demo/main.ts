/**
 * `npm run demo`: a support agent answers a customer while its process is killed twice, each time at the worst moment; then a refund
 * above the limit asks somebody, who answers at a second terminal. `npm run demo -- --unattended`: nobody does.
 * Everything it claims is checked at the end, and a claim that does not hold fails it.
 */
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { type Entry, type Ledger, startLedger } from "../support/ledger.ts";
import { type ModelServer, startModelServer } from "../support/model-server.ts";
import { isModelReal } from "../support/outside.ts";
import { approvalAct, introduceUnattended } from "./approval.ts";
import { type Claim, claims } from "./claims.ts";
import { Reader } from "./reader.ts";
import { heading, note, paint, say } from "./screen.ts";
import { groundcrew, ServerProcess } from "./server-process.ts";

const DEADLINE_MS = isModelReal() ? 180_000 : 90_000;
const BANK_MS = 2_500;
const PAUSE_MS = 700;
const SESSION = "dana";

const startedAt = Date.now();
const folder = mkdtempSync(join(tmpdir(), "groundcrew-demo-"));
const store = join(folder, "crew.db");

const isUnattended = process.argv.includes("--unattended");

let current: ServerProcess | undefined;

type Start = (port: string, what: string) => Promise<ServerProcess>;

const impatience = setTimeout(() => fail(new Error(`Not over after ${DEADLINE_MS / 1000} seconds.`)), DEADLINE_MS);
try {
  const ledger = await startLedger({ file: join(folder, "outside.jsonl"), refundMs: BANK_MS, emailMs: BANK_MS });
  const model = isModelReal() ? undefined : await startModelServer({ tokensPerSecond: 45 });
  const isTrue = await demo(ledger, model);
  process.exit(isTrue ? 0 : 1);
} catch (error) {
  fail(error);
}

function fail(error: unknown): never {
  current?.killNow();
  if (current) say(current.complaints);
  say(paint("red", `\nFailed: ${error instanceof Error ? error.message : String(error)}\nWhat happened so far is in ${store}`));
  clearTimeout(impatience);
  process.exit(1);
}

async function demo(ledger: Ledger, model: ModelServer | undefined): Promise<boolean> {
  const env = {
    GROUNDCREW_API_KEY: "", // whatever stands there is not meant for this
    GROUNDCREW_DEMO_STORE: store,
    GROUNDCREW_DEMO_LEDGER_URL: ledger.url,
    ...(model && { GROUNDCREW_DEMO_MODEL_URL: model.url }),
    ...(isUnattended && { GROUNDCREW_DEMO_UNATTENDED: "1" }),
  };
  const start: Start = async (port, what) => {
    current = await ServerProcess.start(port, env);
    note(`${what}: process ${current.pid} serves ${current.url}`);
    return current;
  };
  if (isUnattended) return unattended(ledger, start);
  introduce(model);
  const first = await start("0", "server and worker");
  const reader = new Reader(first.url);
  const replace = async (killed: ServerProcess, why: string) => {
    say();
    reader.killedAt = Date.now();
    await killed.kill();
    note(paint("red", `kill -9 ${killed.pid}: ${why}`));
    await start(killed.port, "another one, same file, same address");
  };

  const asked = await ask(reader, "My order A-1042 arrived broken. I want my money back.");
  const story = reader.follow(asked);
  const isOver = story.then(() => true);

  await untilBooked(ledger, reader, "refund", isOver);
  await replace(first, "the bank has paid, and its receipt is lost on the way");
  await untilBooked(ledger, reader, "email", isOver);
  if (current) await replace(current, "the e-mail is out, and nobody here knows");

  const followed = await story;
  const reconnects = reader.resumedFrom.length;
  await reader.follow(await ask(reader, "Thanks! When will the money arrive?"));

  const checked = claims({
    entries: ledger.entries(),
    followed,
    fresh: await reader.again(asked),
    kills: 2,
    reconnects,
    modelCalls: model?.requests().length,
    modelSteps: reader.items.filter((item) => item.type === "step.succeeded" && item.step.startsWith("model:")).length,
    conversation: (await reader.client.messages(SESSION)).map((message) => JSON.stringify(message)),
  });
  const approved = await approvalAct({ reader, ledger, isUnattended: false, ask: (prompt) => ask(reader, prompt) });

  heading("What happened, from the run's journal:  groundcrew show <run>");
  await groundcrew("show", asked, "--store", store);

  heading("What reached the outside world:");
  for (const entry of ledger.entries()) say(`  ${told(entry)}`);

  heading("Checked:");
  const isTrue = tell([...checked, ...approved]);
  await current?.stop();
  lookFurther(asked);
  return isTrue;
}

/** `--unattended`: a refund above the limit, and nobody to ask. */
async function unattended(ledger: Ledger, start: Start): Promise<boolean> {
  introduceUnattended();
  const reader = new Reader((await start("0", "server and worker")).url);
  const claims = await approvalAct({ reader, ledger, isUnattended: true, ask: (prompt) => ask(reader, prompt) });
  heading("Checked:");
  const isTrue = tell(claims);
  await current?.stop();
  return isTrue;
}

/** @returns whether all of them are true. */
function tell(checked: readonly Claim[]): boolean {
  for (const [what, isTrue] of checked) say(isTrue ? `  ${paint("green", "✓")} ${what}` : paint("red", `  ✗ NOT TRUE: ${what}`));
  return checked.every(([, isTrue]) => isTrue);
}

async function ask(reader: Reader, prompt: string): Promise<string> {
  say(`\n${paint("cyan", "Dana:")}  ${prompt}`);
  const { id } = await reader.client.start("support", { prompt, session: SESSION });
  return id;
}

/** Waits for the worst moment: the effect is done, and its answer has not come back. */
async function untilBooked(ledger: Ledger, reader: Reader, kind: Entry["kind"], isOver: Promise<boolean>): Promise<void> {
  const tool = kind === "refund" ? "refund" : "sendEmail";
  for (;;) {
    if (ledger.entries().some((entry) => entry.kind === kind) && reader.saw("step.started", tool)) break;
    if (await Promise.race([isOver, wait(20, false)])) throw new Error(`The agent was done without \`${tool}\`: run the demo again.`);
  }
  await wait(PAUSE_MS);
}

function introduce(model: ModelServer | undefined): void {
  say(paint("bold", "Groundcrew: a support agent whose process is killed twice in the middle of its work"));
  say("  Real: the processes and how they are killed, HTTP and its streams, the AI SDK and its provider, the SQLite file.");
  if (model) {
    say("  Scripted: the model (a local server that speaks the provider's protocol), the bank and the mail service.");
    say("  With OPENAI_API_KEY, ANTHROPIC_API_KEY or OPENAI_BASE_URL set, a real model answers instead.");
  } else say("  Real, too: the model, as your environment names it. Scripted: the bank and the mail service.");
  say();
}

function told(entry: Entry): string {
  switch (entry.kind) {
    case "refund":
      return `refund  ${entry.id}  $${entry.amount.toFixed(2)} for ${entry.orderId}, key ${entry.key}`;
    case "repeat":
      return `repeat  of ${entry.of}, same key: answered with the same receipt, nothing paid`;
    case "email":
      return `e-mail  ${entry.id}  to ${entry.to}: ${entry.subject}`;
  }
}

function lookFurther(run: string): void {
  const command = "npm run -s groundcrew --";
  heading(`That took ${Math.round((Date.now() - startedAt) / 1000)} seconds. Look further:`);
  say(`  ${command} show ${run} --full --store ${store}`);
  say(`  ${command} tail ${run} --store ${store}`);
  say(`  ${command} runs --store ${store}`);
  say("  npm run dev -w examples     a server at http://127.0.0.1:4280 to talk to; examples/README.md says how");
  say(`  ${relative(process.cwd(), import.meta.filename)}       what you have just seen; ARCHITECTURE.md says how it works`);
}
