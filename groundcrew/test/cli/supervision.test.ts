/** People at the command line: what waits for them, what they say to it, and what they do to runs; real processes on a real store. */
import { readFileSync, writeFileSync } from "node:fs";
import { userInfo } from "node:os";
import { join } from "node:path";
import { LLMock } from "@copilotkit/aimock";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { project } from "./command.ts";

const library = join(import.meta.dirname, "../../src/index.ts");
const openai = import.meta.resolve("@ai-sdk/openai");
const ai = import.meta.resolve("ai");
const zod = import.meta.resolve("zod");
const me = userInfo().username;

const LONG = "é".repeat(10_000);
const EVIL = "A\u001b[2J\u202e7\n<b>";

/** @param roles what the configuration says of whoever runs this test. */
function configOf(modelUrl: string, roles: readonly string[]): string {
  return `
import { appendFileSync } from "node:fs";
import { createOpenAI } from ${JSON.stringify(openai)};
import { tool } from ${JSON.stringify(ai)};
import { z } from ${JSON.stringify(zod)};
import { agent, escalation, flow, groundcrew } from ${JSON.stringify(library)};

const inputSchema = z.object({ order: z.string(), amount: z.number() });
const support = agent("support", {
  model: createOpenAI({ baseURL: ${JSON.stringify(modelUrl)}, apiKey: "none" }).chat("scripted"),
  tools: {
    refund: tool({ inputSchema, execute: async (input) => {
      appendFileSync("ledger", JSON.stringify(input) + "\\n");
      return { refunded: input.amount };
    } }),
    askPeople: escalation({ to: "role:finance" }),
  },
  policy: { refund: { effect: "keyed", approve: ({ amount }) => (amount > 100 ? "more than 100 \\u202e" : false), by: "role:finance", within: "4h" } },
});
const checked = flow("checked", async (ctx) => {
  await ctx.approval("first", { show: 1, by: "role:lead" });
  return "done";
});
export default groundcrew({ agents: [support, checked], people: { ${JSON.stringify(me)}: { roles: ${JSON.stringify(roles)} } } });
`;
}

const model = new LLMock({ host: "127.0.0.1", port: 0 });
const call = (name: string, input: unknown, id = "call_1") => ({ name, arguments: JSON.stringify(input), id });
model.addFixture({
  match: { predicate: () => true },
  response: ({ messages }) => {
    const last = messages.at(-1);
    const text = typeof last?.content === "string" ? last.content : JSON.stringify(last?.content ?? "");
    if (last?.role === "tool") return { content: `Told: ${text}` };
    if (text.includes("evil")) return { content: "", toolCalls: [call("refund", { order: EVIL + LONG, amount: 250 })] };
    if (text.includes("question")) return { content: "", toolCalls: [call("askPeople", { question: "When?" })] };
    if (text.includes("refund")) return { content: "", toolCalls: [call("refund", { order: "o1", amount: 250 })] };
    return { content: `You said: ${text}` };
  },
});

let crew: ReturnType<typeof project>;

beforeAll(() => model.start());
afterAll(() => model.stop());

beforeEach(() => {
  const url = `${model.url}/v1`;
  crew = project({ "groundcrew.config.ts": configOf(url, ["finance", "operator"]), "clerk.config.ts": configOf(url, ["clerk"]) });
});

afterEach(() => crew.remove());

const runId = (text: string) => /run_\w+/.exec(text)?.[0] ?? "";
const ledger = () => {
  try {
    return readFileSync(join(crew.directory, "ledger"), "utf8")
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line));
  } catch {
    return [];
  }
};

/** A run in another terminal that waits for people. */
async function asking(prompt = "Please refund me.") {
  const terminal = crew.start(["run", "support", prompt]);
  const [, id = ""] = await terminal.until(/groundcrew (?:approve|answer) (run_\w+\.\d+)/);
  return { ...terminal, id };
}

describe("a request", () => {
  test("is in the inbox, is shown whole, and goes on in the first terminal when it was approved in the second", async () => {
    const terminal = await asking();
    const { code, out } = await crew.groundcrew("inbox");
    expect(code).toBe(0);
    expect(out).toMatch(/^APPROVAL +AGE +EXPIRES +AGENT +WHAT +FOR +WHY\n/);
    expect(out).toMatch(new RegExp(`${terminal.id} +[\\d.]+m?s +in 3h 59m +support +refund +local +more than 100 ⟨U\\+202E⟩`));

    const shown = (await crew.groundcrew("approval", terminal.id)).out;
    for (const text of [
      '"order": "o1"',
      '"amount": 250',
      "more than 100 ⟨U+202E⟩",
      "local (tenant default)",
      "role:finance; not local",
      "user: Please refund me.",
    ])
      expect(shown).toContain(text);
    expect(shown).toContain(`groundcrew approve ${terminal.id}`);
    const run = await crew.groundcrew("show", runId(terminal.id));
    expect(run.out).toMatch(/parked: approval, for .* \(parked for /);
    expect(run.out).toContain("It expires in 3h 59m");
    expect(run.out).toContain(`groundcrew deny ${terminal.id} --reason '<why>'`);
    expect(ledger()).toEqual([]);

    const approved = await crew.groundcrew("approve", terminal.id, "--reason", "fair enough");
    expect(approved).toMatchObject({ code: 0, out: expect.stringMatching(new RegExp(`approved by ${me} at .* \\(cli\\): fair enough`)) });
    expect(await terminal.ended).toMatchObject({ code: 0, out: 'Told: {"refunded":250}\n' });
    expect(ledger()).toEqual([{ order: "o1", amount: 250 }]);
    expect(await crew.groundcrew("inbox")).toMatchObject({ code: 0, out: "", err: "Nothing waits for you.\n" });
    expect((await crew.groundcrew("approval", terminal.id)).out).toContain(`approved by ${me}`);
    expect((await crew.groundcrew("show", runId(terminal.id))).out).toMatch(new RegExp(`approved +refund by ${me}`));
  });

  test("shows its arguments inert and complete, character for character", async () => {
    const { id, child } = await asking("Be evil.");
    const { out } = await crew.groundcrew("approval", id);
    // biome-ignore lint/suspicious/noControlCharactersInRegex: that is what must not be there
    expect(out).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u202e]/);
    expect(out).toContain(`"order": "A\\u001b[2J\\u202e7\\n<b>${LONG}"`);
    const listed = await crew.groundcrew("inbox");
    expect(listed.out).not.toContain("\u202e");
    expect((await crew.json("approval", id)).approval.request.input).toEqual({ order: EVIL + LONG, amount: 250 });
    child.kill("SIGINT");
  });

  test("that somebody has decided is not decided again: the second hears who was first, and when, and nothing changes", async () => {
    const terminal = await asking();
    expect(await crew.groundcrew("deny", terminal.id, "--reason", "not now")).toMatchObject({ code: 0 });
    for (const args of [
      ["approve", terminal.id],
      ["deny", terminal.id, "--reason", "no"],
      ["delegate", terminal.id, "user:bo"],
    ]) {
      const { code, out, err } = await crew.groundcrew(...args);
      expect({ code, out }).toEqual({ code: 4, out: "" });
      expect(err).toMatch(new RegExp(`error APPROVAL_ENDED: Approval ${terminal.id} is denied by ${me} at \\d{4}-`));
      expect(err).toContain("Nothing was changed.");
    }
    expect(await terminal.ended).toMatchObject({ code: 0, out: expect.stringContaining("not now") });
    expect(ledger()).toEqual([]);
  });

  test("is approved with other arguments only when they fit, from the command line, a file, or standard input", async () => {
    const terminal = await asking();
    const wrong = await crew.groundcrew("approve", terminal.id, "--input", '{"order":"o1","amount":"50"}');
    expect(wrong).toMatchObject({ code: 2, err: expect.stringContaining("Expected `input` to be such that it fits the tool") });
    expect(await crew.groundcrew("approve", terminal.id, "--input", "{amount:50}")).toMatchObject({
      code: 2,
      err: expect.stringContaining("Expected --input to be JSON"),
    });
    expect(await crew.groundcrew("approve", terminal.id, "--input", "@nope.json")).toMatchObject({
      code: 2,
      err: expect.stringContaining("Expected --input in nope.json"),
    });
    expect(await crew.groundcrew("approve", terminal.id, "--hash", "another")).toMatchObject({
      code: 2,
      err: expect.stringContaining("INPUT_INVALID"),
    });
    expect((await crew.json("inbox")).approvals).toHaveLength(1);
    writeFileSync(join(crew.directory, "less.json"), '{"order":"o1","amount":50}');
    expect(await crew.groundcrew("approve", terminal.id, "--input", "@less.json")).toMatchObject({ code: 0 });
    expect((await terminal.ended).code).toBe(0);
    expect(ledger()).toEqual([{ order: "o1", amount: 50 }]);
    const { out } = await crew.groundcrew("approval", terminal.id);
    expect(out).toMatch(/arguments +\{\n +"order": "o1",\n +"amount": 250\n +\}\n/);
    expect(out).toMatch(/instead +\{\n +"order": "o1",\n +"amount": 50\n +\}\n/);
  });

  test("can be decided on a bare store too, but not with other arguments: nobody there knows the tool", async () => {
    const { id, ended } = await asking();
    const bare = ["--store", ".groundcrew/crew.db"];
    expect(await crew.groundcrew("approve", id, "--input", "{}", ...bare)).toMatchObject({
      code: 3,
      err: expect.stringContaining("AGENT_NOT_FOUND"),
    });
    // Who is not in the configuration operates the machine, and that is not what finance is.
    expect(await crew.groundcrew("approve", id, ...bare)).toMatchObject({ code: 2, err: expect.stringContaining("error FORBIDDEN: ") });
    expect(await crew.groundcrew("approve", id)).toMatchObject({ code: 0 });
    expect((await ended).code).toBe(0);
  });

  test("is refused to whom the configuration does not give the role, and the attempt is on record", async () => {
    const terminal = await asking();
    const clerk = ["--config", "clerk.config.ts"];
    expect((await crew.json("inbox", ...clerk)).approvals).toEqual([]);
    expect((await crew.json("inbox", "--all", ...clerk)).approvals).toMatchObject([{ id: terminal.id }]);
    expect(await crew.groundcrew("approve", terminal.id, ...clerk)).toMatchObject({
      code: 2,
      err: expect.stringContaining(`"${me}" is none of those who may decide: role:finance.`),
    });
    expect(await crew.json("audit", "list", "--approval", terminal.id)).toMatchObject({
      records: [{ action: "approval.requested" }, { action: "approval.refused", actor: { kind: "person", id: me }, channel: "cli" }],
    });
    await crew.groundcrew("approval", terminal.id, ...clerk);
    expect((await crew.json("audit", "list", "--limit", "1")).records).toMatchObject([{ action: "approval.viewed", actor: { id: me } }]);
    expect(await crew.groundcrew("delegate", terminal.id, `user:${me}`, "role:lead")).toMatchObject({ code: 0 });
    expect(await crew.groundcrew("delegate", terminal.id, "finance")).toMatchObject({
      code: 2,
      err: expect.stringContaining('got "finance"'),
    });
    expect(await crew.groundcrew("approve", terminal.id, ...clerk)).toMatchObject({ code: 0 });
    expect((await terminal.ended).code).toBe(0);
  });

  test("with --similar lets further calls in the run go by without anybody, and says both halves of it", async () => {
    const { id, ended } = await asking();
    expect(await crew.groundcrew("approve", id, "--similar", "2")).toMatchObject({
      code: 2,
      err: expect.stringContaining("--similar and --within go together"),
    });
    expect(await crew.groundcrew("approve", id, "--similar", "2", "--within", "soon")).toMatchObject({
      code: 2,
      err: expect.stringContaining("`--within`"),
    });
    expect((await crew.json("approve", id, "--similar", "2", "--within", "1h")).approval.verdict.similar).toMatchObject({ uses: 2 });
    expect((await ended).code).toBe(0);
    expect((await crew.groundcrew("approval", id)).out).toContain('2 more calls of "refund" until ');
  });

  test("that is named by its run is found there", async () => {
    const terminal = await asking();
    const run = runId(terminal.id);
    for (const args of [["approval"], ["approve"], ["deny", "--reason", "x"]]) {
      const [command = "", ...rest] = args;
      expect(await crew.groundcrew(command, run, ...rest)).toMatchObject({
        code: 3,
        err: expect.stringContaining(`That is a run; its open requests: ${terminal.id}.`),
      });
    }
    await crew.groundcrew("approve", terminal.id);
    expect((await terminal.ended).code).toBe(0);
    expect((await crew.groundcrew("approve", run)).err).toContain("That is a run, and it has no open requests.");
  });

  test("that is a question is answered, in JSON or in plain words", async () => {
    for (const [given, told] of [
      ["tomorrow at nine", '"answer":"tomorrow at nine"'],
      ["5", '"answer":5'],
      ['"5"', '"answer":"5"'],
    ] as const) {
      const terminal = await asking("I have a question.");
      expect((await crew.groundcrew("inbox")).out).toContain("askPeople ?");
      expect(await crew.groundcrew("approve", terminal.id)).toMatchObject({
        code: 2,
        err: expect.stringMatching(new RegExp(`this is a question\\.\n.*\`groundcrew answer ${terminal.id} '<answer>'\``)),
      });
      expect(await crew.groundcrew("answer", terminal.id, given)).toMatchObject({ code: 0 });
      expect((await terminal.ended).out).toContain(told);
    }
  });

  test("is not denied without a reason, and one that does not exist is told with 3", async () => {
    expect(await crew.groundcrew("deny", "run_1.1")).toMatchObject({ code: 2, err: expect.stringContaining("needs --reason") });
    await crew.groundcrew("runs");
    for (const args of [
      ["approval", "run_1.1"],
      ["approve", "run_1.1"],
      ["deny", "x", "--reason", "y"],
      ["answer", "run_1.7", "1"],
      ["delegate", "../x", "user:a"],
    ])
      expect(await crew.groundcrew(...args), args.join(" ")).toMatchObject({
        code: 3,
        err: expect.stringContaining("error APPROVAL_NOT_FOUND: "),
      });
  });
});

describe("inbox --watch", () => {
  test("shows what waits, each new one once, and what waits no more, until Ctrl-C", async () => {
    const first = await asking();
    const watching = crew.start(["inbox", "--watch"]);
    await watching.until(new RegExp(`${first.id} {2}support: refund for local, expires in 3h 59m`));
    const second = await asking();
    await watching.until(new RegExp(`groundcrew approve ${second.id}`));
    await crew.groundcrew("deny", first.id, "--reason", "no");
    await watching.until(new RegExp(`${first.id} waits no more`));
    watching.child.kill("SIGINT");
    expect((await watching.ended).code).toBe(130);
    expect(watching.printed().split(`${first.id}  support`)).toHaveLength(2);
    second.child.kill("SIGINT");
    await first.ended;
  });

  test("tells a program the same, a line for each", async () => {
    const watching = crew.start(["inbox", "--watch", "--json"]);
    const { id, ended } = await asking();
    const [line] = await watching.until(/\{"type":"waiting".*\}\n/);
    expect(JSON.parse(line)).toMatchObject({ approval: { id, status: "open" } });
    await crew.groundcrew("approve", id);
    await watching.until(new RegExp(`\\{"type":"gone","approval":"${id}"\\}\n`));
    watching.child.kill("SIGINT");
    await ended;
  });
});

describe("a run", () => {
  test("is held, says so with who, why and the way on, and goes on when it is resumed", async () => {
    const terminal = await asking();
    const id = runId(terminal.id);
    expect(await crew.groundcrew("pause", id)).toMatchObject({ code: 2, err: expect.stringContaining("needs <why>") });
    expect(await crew.groundcrew("pause", id, "let me look")).toMatchObject({ code: 0 });
    await crew.groundcrew("approve", terminal.id);
    expect(await terminal.ended).toMatchObject({ code: 5, err: expect.stringContaining(`groundcrew resume ${id}`) });
    const shown = (await crew.groundcrew("show", id)).out;
    expect(shown).toContain(`${me} has paused it: let me look`);
    expect(shown).toMatch(new RegExp(`paused +by ${me}: let me look`));
    expect(shown).not.toContain("groundcrew retry");
    expect(ledger()).toEqual([]);
    expect(await crew.groundcrew("resume", id)).toMatchObject({ code: 0 });
    expect(await following(id)).toMatchObject({ code: 0 });
    expect(ledger()).toHaveLength(1);
    for (const command of [
      ["pause", id, "x"],
      ["resume", id],
      ["say", id, "x"],
      ["raise", id, "3"],
      ["takeover", id],
    ])
      expect(await crew.groundcrew(...command), command.join(" ")).toMatchObject({
        code: 4,
        err: expect.stringMatching(new RegExp(`error RUN_FINISHED: Run ${id} has ended \\(succeeded\\)\\.\n`)),
      });
  });

  test("is told something, and given more steps; nonsense is refused with a sentence", async () => {
    const terminal = await asking();
    const id = runId(terminal.id);
    expect(await crew.groundcrew("say", id, "Be brief.")).toMatchObject({ code: 0 });
    expect(await crew.groundcrew("say", id, " ")).toMatchObject({ code: 2, err: expect.stringContaining("Expected `text`") });
    expect(await crew.groundcrew("raise", id, "5")).toMatchObject({ code: 0, out: expect.stringContaining("5 more model steps") });
    for (const steps of ["0", "-1", "many", "1e3"])
      expect(await crew.groundcrew("raise", id, "--", steps)).toMatchObject({
        code: 2,
        err: expect.stringContaining("Expected <steps> to be a whole number"),
      });
    await crew.groundcrew("approve", terminal.id);
    expect(await terminal.ended).toMatchObject({ code: 0, out: "You said: Be brief.\n" });
    const { out } = await crew.groundcrew("show", id);
    expect(out).toMatch(new RegExp(`message +.* by ${me}`));
    expect(out).toMatch(new RegExp(`raised +5 more model steps, by ${me}`));
  });

  test("is taken over by a person, who speaks in the agent's place and hands it back", async () => {
    const terminal = await asking();
    const id = runId(terminal.id);
    expect(await crew.groundcrew("speak", id, "Hello")).toMatchObject({ code: 2, err: expect.stringContaining("Nobody has taken over") });
    expect(await crew.groundcrew("takeover", id)).toMatchObject({ code: 0 });
    await crew.groundcrew("approve", terminal.id);
    expect(await terminal.ended).toMatchObject({ code: 5, err: expect.stringContaining(`groundcrew handback ${id}`) });
    expect((await crew.groundcrew("show", id)).out).toContain(`${me} has taken over the conversation`);
    expect(await crew.groundcrew("speak", id, "I look into it myself.")).toMatchObject({ code: 0 });
    expect(await crew.groundcrew("handback", id)).toMatchObject({ code: 0 });
    expect(await following(id)).toMatchObject({ code: 0 });
    const { out } = await crew.groundcrew("show", id);
    expect(out).toMatch(new RegExp(`handover +taken over by ${me}`));
    expect(out).toContain("I look into it myself.");
  });
});

/** The run, executed to its end or to where it waits. */
async function following(id: string) {
  const worker = crew.start(["serve", "--role", "worker", "--json"]);
  const tail = crew.start(["tail", id]);
  const ended = await tail.ended;
  worker.child.kill("SIGTERM");
  await worker.ended;
  return ended;
}

describe("the emergency stop", () => {
  test("is said wherever somebody wonders why nothing moves, and names what is in flight", async () => {
    expect(await crew.groundcrew("stop")).toMatchObject({ code: 2, err: expect.stringContaining("needs --why") });
    expect(await crew.groundcrew("stops")).toMatchObject({ code: 0, out: "", err: "Nothing is stopped.\n" });
    expect(await crew.groundcrew("stop", "--why", "wrong \u001b[31mprices")).toMatchObject({
      code: 0,
      out: expect.stringContaining("Nothing was in flight."),
    });
    expect(await crew.groundcrew("stops")).toMatchObject({
      out: expect.stringMatching(new RegExp(`^Everything is stopped by ${me}, for .*: wrong ⟨U\\+001B⟩\\[31mprices\\.`)),
    });
    expect((await crew.groundcrew("runs")).err).toContain("Everything is stopped");

    const terminal = crew.start(["run", "support", "Hello"]);
    await terminal.until(/Everything is stopped by .*`groundcrew lift` lets it go on/);
    expect((await crew.groundcrew("show", runId(terminal.printed()))).out).toContain("Everything is stopped");
    expect(await crew.groundcrew("lift", "support")).toMatchObject({
      code: 0,
      out: expect.stringContaining('There was no stop of "support"; nothing was changed.'),
      err: expect.stringContaining("Everything is stopped"),
    });
    expect(await crew.groundcrew("lift")).toMatchObject({ code: 0, out: expect.stringContaining("Lifted") });
    expect(await terminal.ended).toMatchObject({ code: 0, out: "You said: Hello\n" });
  });

  test("of an agent that nobody here knows is set, and said to be one, with those that are known", async () => {
    const { code, out, err } = await crew.groundcrew("stop", "suport", "--why", "x");
    expect({ code, out }).toEqual({ code: 0, out: expect.stringMatching(/^Stopped: nothing of "suport" begins/) });
    expect(err).toContain('No agent "suport" is known here: the one that you mean may go on.');
    expect(err).toContain('Known are: "checked", "support".');
    expect((await crew.groundcrew("stop", "support", "--why", "x")).err).not.toContain("known");
    expect(await crew.groundcrew("lift", "suport")).toMatchObject({ out: 'Lifted the stop of "suport".\n' });
    expect(await crew.groundcrew("lift")).toMatchObject({
      out: "There was no stop of everything; nothing was changed.\n",
      err: expect.stringMatching(/^But: "support" is stopped by /),
    });
    await crew.groundcrew("lift", "support");
    expect((await crew.groundcrew("lift")).err).toBe("Nothing is stopped.\n");
  });

  test("of one agent concerns no other, and only operators set one", async () => {
    expect(await crew.groundcrew("stop", "support", "--why", "x", "--config", "clerk.config.ts")).toMatchObject({
      code: 2,
      err: expect.stringContaining("FORBIDDEN"),
    });
    expect((await crew.json("stop", "support", "--why", "x")).stop).toMatchObject({ agent: "support", why: "x", by: me });
    expect((await crew.groundcrew("runs", "--agent", "checked")).err).not.toContain("is stopped");
    expect((await crew.groundcrew("runs", "--agent", "support")).err).toContain('"support" is stopped');
    const other = crew.start(["run", "checked", "--input", "null"]);
    await other.until(/groundcrew approve/);
    other.child.kill("SIGINT");
    expect(await crew.json("lift", "support")).toEqual({ lifted: true, stops: [] });
  });
});

test("a config file that does not load here, because a secret is only in the server's terminal, names the ways without it", async () => {
  writeFileSync(
    join(crew.directory, "secret.config.ts"),
    `import { groundcrew, webhook } from ${JSON.stringify(library)};
export default groundcrew({ agents: [], supervision: { channels: [webhook({ url: "https://example.com", secret: process.env.NOPE! })] } });`,
  );
  const { code, err } = await crew.groundcrew("inbox", "--config", "secret.config.ts");
  expect({ code, err }).toEqual({
    code: 2,
    err: expect.stringMatching(/error CONFIG_INVALID: Expected `webhook\.secret`[^\n]+base64\.\n/),
  });
  expect(err).toMatch(/fix: .*openssl.* name the running server with --url, or the store with --store\.\n/);
  expect((await crew.groundcrew("run", "x", "y", "--config", "secret.config.ts")).err).not.toContain("--url");
});
