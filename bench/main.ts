/**
 * `npm run bench -- [name…] [--json]`: measures the built package through its public API, beside the raw limit of `node:sqlite`
 * on the same work. Each name has a process of its own: none pays for what another left in memory. `npm run bench -- peers`
 * does one work on Groundcrew and on what it may be compared with.
 */
import { fork } from "node:child_process";
import { existsSync } from "node:fs";
import { type Figure, isReached } from "./figure.ts";
import { installPeers } from "./install.ts";
import { machine } from "./machine.ts";
import { figuresOf, ratiosOf, rowsOf } from "./peer-figures.ts";
import { CONTENDERS, type Entry, needsInstall, sideBySide } from "./peers.ts";
import { printJson, printLine, printTable } from "./print.ts";

const NAMES = [
  "throughput",
  "step",
  "gates",
  "start",
  "recovery",
  "history",
  "parked",
  "journal",
  "loop-delay",
  "pg-recovery",
  "pg-history",
  "pg-parked",
  "readers",
];
/** So that the columns of most benchmarks stand below each other. */
const MIN_NAME_WIDTH = 23;
const USAGE = `Usage: npm run bench -- [name…] [--json]
       npm run bench -- peers [peer…] [--json]
Names: ${NAMES.join(", ")}. Without one: all of them.
Peers: ${CONTENDERS.join(", ")}. Without one: all of them; they are installed from npm when they are first needed.`;

function measure(name: string): Promise<Figure[]> {
  return new Promise((resolve, reject) => {
    const child = fork(new URL("./measure.ts", import.meta.url), [name]);
    let figures: Figure[] | undefined;
    child.on("message", (message: Figure[]) => {
      figures = message;
    });
    child.on("exit", (code) => (figures ? resolve(figures) : reject(new Error(`The benchmark "${name}" gave no figures (exit ${code}).`))));
  });
}

function stop(message: string): never {
  console.error(message);
  process.exit(2);
}

function report(figures: readonly Figure[], json: boolean): string[] {
  const width = Math.max(MIN_NAME_WIDTH, ...figures.map(({ name }) => name.length));
  for (const figure of figures) json ? printJson(figure) : printLine(figure, width);
  return figures.filter((figure) => !isReached(figure)).map((figure) => figure.name);
}

/** @returns the names of what was not reached */
async function peers(names: readonly string[], json: boolean): Promise<string[]> {
  const why = needsInstall(names) ? installPeers() : null;
  if (why) stop(`${why}\nWithout them: npm run bench -- peers bare groundcrew groundcrew-sqlite`);
  const entries = await sideBySide(names, (name) => console.error(`${name} …`));
  if (json) report(figuresOf(entries), json);
  else printTable(rowsOf(entries));
  if (!json) console.log();
  const missed = report(ratiosOf(entries), json);
  if (!json) console.log();
  for (const entry of entries) (json ? printEntryJson : printEntry)(entry);
  return missed;
}

function printEntryJson(entry: Entry): void {
  const told = "outcome" in entry ? { version: entry.outcome.version, settings: entry.outcome.settings } : { notRun: entry.notRun };
  console.log(JSON.stringify({ contender: entry.name, ...told }));
}

function printEntry(entry: Entry): void {
  const told = "outcome" in entry ? `${entry.outcome.version}: ${entry.outcome.settings}` : `not run: ${entry.notRun}`;
  console.log(`  ${entry.name.padEnd(19)} ${told}`);
}

async function benchmarks(names: readonly string[], json: boolean): Promise<string[]> {
  const missed: string[] = [];
  for (const name of names) missed.push(...report(await measure(name), json));
  return missed;
}

const args = process.argv.slice(2);
if (args.includes("--help")) {
  console.log(USAGE);
  process.exit(0);
}
const json = args.includes("--json");
const [first, ...rest] = args.filter((arg) => arg !== "--json");
const named = first === "peers" ? rest : [first, ...rest].filter((name) => name !== undefined);
const known = first === "peers" ? CONTENDERS : NAMES;
const unknown = named.find((name) => !known.includes(name));
if (unknown !== undefined) stop(`There is no ${first === "peers" ? "peer" : "benchmark"} "${unknown}".\n${USAGE}`);
if (!existsSync(new URL("../groundcrew/dist/index.js", import.meta.url))) {
  stop("There is no build to measure. Run `npm run build` first, or `npm run bench`, which builds.");
}

if (!json) console.log(`${machine()}\n`);
const missed = await (first === "peers" ? peers : benchmarks)(named.length > 0 ? named : known, json);
if (!json && missed.length > 0) console.log(`\nNot reached: ${missed.join(", ")}.`);
