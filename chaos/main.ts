/**
 * `npm run chaos -- --store sqlite|postgres --programs N --seed S [--json]`: random agent programs on several worker processes, while
 * these and their store are killed, stopped, cut off and deployed over. Afterwards nothing may be lost, and nothing doubled that
 * may not be: the books of the world outside say so.
 */
import { rmSync } from "node:fs";
import { inOwnNamespace } from "./namespace.ts";
import { type Options, optionsOf, USAGE } from "./options.ts";
import { say } from "./report.ts";
import { chaos, type Outcome } from "./run.ts";

async function main(): Promise<number> {
  let options: Options | "help";
  try {
    options = optionsOf(process.argv.slice(2));
  } catch (error) {
    say(`${(error as Error).message}\n\n${USAGE}`);
    return 2;
  }
  if (options === "help") {
    console.log(USAGE);
    return 0;
  }
  const code = await inOwnNamespace(options.store === "sqlite");
  if (code !== undefined) return code;
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => process.exit(130));
  say(`chaos on ${options.store}, seed ${options.seed}, ${options.programs} programs, ${options.workers} workers`);
  return conclude(options, await chaos(options)) ? 0 : 1;
}

/** Says what came of it. @returns whether all is well */
function conclude({ store, seed, json }: Options, { report, log, programs, seconds, notRun, folder }: Outcome): boolean {
  const isWell = report.problems.length === 0;
  const { operations, unknown } = report;
  if (isWell) rmSync(folder, { recursive: true });
  else say(`${report.problems.length} problems, see ${folder}`);
  for (const [kind, why] of Object.entries(notRun)) say(`not run: ${kind} (${why})`);
  if (!json) {
    console.log(
      `${programs} programs with ${operations} operations came to their end; ${report.read} runs were read along, by readers that came and went`,
    );
    console.log(
      `faults: ${Object.entries(log.counts)
        .map(([kind, count]) => `${count} ${kind}`)
        .join(", ")}`,
    );
  }
  const result = {
    verdict: isWell ? "ok" : "failed",
    store,
    programs,
    operations,
    faults: log.counts,
    lost: report.count("lost"),
    doubled: report.count("doubled"),
    unknown,
    seconds,
    seed,
    ...(Object.keys(notRun).length > 0 && { notRun }),
  };
  console.log(JSON.stringify(result));
  return isWell;
}

process.exit(await main()); // whatever is stuck does not keep the result
