/** Starts programs, does what people do with them (signals, cancels, conversations, reading along), and has each checked when it is over. */
import { setTimeout as sleep } from "node:timers/promises";
import { type Crew as Client, isError, type Run } from "../groundcrew/src/index.ts";
import type { Crew } from "./agents.ts";
import type { Checks, End } from "./checks.ts";
import { signalsOf, signalValue } from "./expected.ts";
import { PROMPTS } from "./model.ts";
import { insist } from "./patience.ts";
import { conversationOf, isAgent, type Order, type Remark } from "./programs.ts";
import { mixed, Random } from "./random.ts";
import { flawIn, readInPieces } from "./reader.ts";
import type { Report } from "./report.ts";
import { checkConversation } from "./session-check.ts";
import type { Watcher } from "./watcher.ts";
import type { World } from "./world.ts";

/** Runs that have a reader at a time: each looks at the store with every change of it. */
const MOST_READERS = 12;
const EXPIRES_MS = 1_000;
const LONG_DEADLINE = "20m";

export interface DriverDeps {
  client: Client;
  crew: Crew;
  world: World;
  watcher: Watcher;
  checks: Checks;
  report: Report;
}

export class Driver {
  readonly #deps: DriverDeps;
  /** Runs whose start was acknowledged. */
  readonly acknowledged = new Set<string>();
  /** Programs that are not over, with the runs that are known of them. */
  readonly open = new Map<Order, { since: number; runs: string[] }>();
  #readers = 0;

  constructor(deps: DriverDeps) {
    this.#deps = deps;
  }

  async play(order: Order): Promise<void> {
    const { report } = this.#deps;
    this.open.set(order, { since: performance.now(), runs: [] });
    try {
      await (order.shape === "session" ? this.#converse(order) : this.#run(order));
    } catch (error) {
      report.add("wrong", `${JSON.stringify(order)}: ${error instanceof Error ? error.stack : String(error)}`);
    } finally {
      this.open.delete(order);
      report.done++;
    }
  }

  async #run(order: Order): Promise<void> {
    const { checks, watcher } = this.#deps;
    const random = new Random(mixed(order.seed, 1));
    const run = await this.#start(order, random);
    const reading = this.#read(run.id, random);
    reading.catch(() => {}); // it is awaited below, when the run is over
    await Promise.all([watcher.ended(run.id), this.#signals(run, order, random), this.#cancel(run, order, random)]);
    await reading;
    await checks.program(order, run.id, endsOf(order));
  }

  /** Some ask twice, as impatient clients do: it is one run. */
  async #start(order: Order, random: Random): Promise<Run> {
    const request = {
      key: order.label,
      ...(order.shape === "expires" && { deadline: EXPIRES_MS }),
      ...(random.chance(0.2) && order.shape === "work" && ({ deadline: LONG_DEADLINE } as const)),
      ...(random.chance(0.1) && { after: random.between(1, 800) }),
    };
    const ask = () => insist("a start", () => this.#ask(order, request));
    const [run, again] = await Promise.all(random.chance(0.1) ? [ask(), ask()] : [ask()]);
    if (again && again.id !== run.id) this.#deps.report.add("doubled", `${order.label} was started as ${run.id} and as ${again.id}`);
    this.#acknowledge(order, run.id);
    return run;
  }

  async #ask(order: Order, request: object): Promise<Run> {
    const { client, crew } = this.#deps;
    if (isAgent(order.shape)) return client.start(crew.clerk, { prompt: PROMPTS.order(order), ...request });
    return client.start(crew.program, { input: order, ...request });
  }

  #acknowledge(order: Order, run: string): void {
    this.acknowledged.add(run);
    this.open.get(order)?.runs.push(run);
  }

  async #signals(run: Run, order: Order, random: Random): Promise<void> {
    await Promise.all(
      signalsOf(order).map(async (name) => {
        await sleep(random.between(0, 800));
        const send = () => insist("a signal", () => run.signal(name, signalValue(order.label, name), { id: name }));
        for (let times = random.chance(0.2) ? 2 : 1; times > 0; times--) await send().catch(unlessOver);
      }),
    );
  }

  async #cancel(run: Run, { shape }: Order, random: Random): Promise<void> {
    if (shape !== "waits" && shape !== "cut") return;
    await sleep(random.between(0, 1_500));
    await insist("a cancel", () => run.cancel("it was cut short")).catch(unlessOver);
  }

  async #read(id: string, random: Random): Promise<void> {
    const { client, report } = this.#deps;
    if (this.#readers >= MOST_READERS) return;
    this.#readers++;
    try {
      const seen = await readInPieces(client, id, random);
      const flaw = await flawIn(client, id, seen);
      if (flaw !== undefined) report.add("wrong", `run ${id}: ${flaw}`);
      report.read++;
    } finally {
      this.#readers--;
    }
  }

  /** Several clients of one session, each of whom speaks without waiting for the others. */
  async #converse(order: Order): Promise<void> {
    const { client, world, report, checks } = this.#deps;
    const conversation = conversationOf(order);
    const acknowledged = new Map<string, string>();
    const talk = async (remarks: readonly Remark[]) => {
      for (const remark of remarks) acknowledged.set(remark.token, await this.#say(order, remark));
    };
    await Promise.all(conversation.clients.map(talk));
    await Promise.all([...new Set(acknowledged.values())].map((run) => this.#deps.watcher.ended(run)));
    await checkConversation({ crew: client, world, report, checks }, conversation, acknowledged);
  }

  async #say(order: Order, { token, whenBusy, pauseMs }: Remark): Promise<string> {
    const { client, crew } = this.#deps;
    await sleep(pauseMs);
    const run = await insist("a remark", () =>
      client.start(crew.talker, { prompt: PROMPTS.remark(token), session: order.label, whenBusy, key: token }),
    );
    this.#acknowledge(order, run.id);
    return run.id;
  }
}

/** How a program may end. A cancel may come when everything is done. */
function endsOf({ shape }: Order): End[] {
  switch (shape) {
    case "fails":
      return ["run.failed"];
    case "waits":
      return ["run.cancelled"];
    case "expires":
      return ["run.expired"];
    case "cut":
      return ["run.succeeded", "run.cancelled"];
    default:
      return ["run.succeeded"];
  }
}

function unlessOver(error: unknown): void {
  if (!isError(error, "RUN_FINISHED")) throw error;
}
