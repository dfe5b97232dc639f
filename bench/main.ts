/**
 * `npm run bench -- [name…] [--json]`: measures the built package through its public API, beside the raw limit of `node:sqlite`
 * on the same work. Each name has a process of its own: none pays for what another left in memory.
 */
import { fork } from "node:child_process";
import { existsSync } from "node:fs";
import { styleText } from "node:util";
import { type Figure, isReached } from "./figure.ts";
import { machine } from "./machine.ts";

const NAMES = ["throughput", "step", "start", "recovery", "history", "parked", "journal", "loop-delay"];
const USAGE = `Usage: npm run bench -- [name…] [--json]\nNames: ${NAMES.join(", ")}. Without one: all of them.`;

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

function printJson({ name, value, unit, how }: Figure): void {
  console.log(JSON.stringify({ name, value: rounded(value), unit, how }));
}

function printLine(figure: Figure): void {
  const { name, value, unit, how, target } = figure;
  const bound = !target ? "" : "atLeast" in target ? `≥ ${target.atLeast}` : `≤ ${target.atMost}`;
  const mark = !target ? " " : isReached(figure) ? styleText("green", "✓") : styleText("red", "✗");
  console.log(
    `${mark} ${name.padEnd(22)} ${String(rounded(value)).padStart(9)} ${unit.padEnd(12)} ${bound.padEnd(9)} ${styleText("dim", how)}`,
  );
}

/** Three digits that mean something. */
function rounded(value: number): number {
  return Math.abs(value) >= 1_000 ? Math.round(value) : Number(value.toPrecision(3));
}

function stop(message: string): never {
  console.error(message);
  process.exit(2);
}

const args = process.argv.slice(2);
if (args.includes("--help")) {
  console.log(USAGE);
  process.exit(0);
}
const names = args.filter((arg) => arg !== "--json");
const unknown = names.find((name) => !NAMES.includes(name));
if (unknown !== undefined) stop(`There is no benchmark "${unknown}".\n${USAGE}`);
if (!existsSync(new URL("../groundcrew/dist/index.js", import.meta.url))) {
  stop("There is no build to measure. Run `npm run build` first, or `npm run bench`, which builds.");
}

const json = args.includes("--json");
if (!json) console.log(`${machine()}\n`);
const missed: string[] = [];
for (const name of names.length > 0 ? names : NAMES) {
  const figures = await measure(name);
  for (const figure of figures) (json ? printJson : printLine)(figure);
  missed.push(...figures.filter((figure) => !isReached(figure)).map((figure) => figure.name));
}
if (!json && missed.length > 0) console.log(`\nNot reached: ${missed.join(", ")}.`);
