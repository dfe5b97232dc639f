/** `store copy` and `store distribute`: what is done to a whole store, while nobody works on it. */
import { existsSync } from "node:fs";
import { resolve } from "node:path";
import { GroundcrewError } from "../errors.ts";
import { type CopyProgress, copyStore } from "../persistence/copy.ts";
import type { Store } from "../persistence/store.ts";
import { fileOf, isPostgres, openStore } from "../store.ts";
import { type Invocation, oneOf, usage } from "./arguments.ts";
import { type ExitCode, exit } from "./exit.ts";
import { type Output, standardStreams } from "./output.ts";
import { Screen } from "./screen.ts";
import { inert } from "./terminal.ts";

export function store(call: Invocation, out: Output): Promise<ExitCode> {
  const what = oneOf(call.args[0] ?? "", "what is done to the store", ["copy", "distribute"]);
  return what === "copy" ? copy(call, out) : distribute(call, out);
}

async function copy(call: Invocation, out: Output): Promise<ExitCode> {
  const source = await openExisting(required(call, "from"));
  const target = await openStore(required(call, "to")).catch(async (error) => {
    await source.close();
    throw error;
  });
  let progress: CopyProgress | undefined;
  const screen = new Screen(standardStreams, "err", () => progress && statusOf(progress));
  try {
    if (source.location === target.location) throw usage("--from and --to name the same store.");
    const report = await copyStore(source, target, (now) => {
      if (now.phase !== progress?.phase && !out.json) screen.note(PHASES[now.phase]);
      progress = now;
    });
    screen.close();
    if (out.json) out.document({ from: source.location, to: target.location, ...report });
    else {
      const { runs, sessions, blobs, events, chunks, signals, starts, hash, resumed } = report;
      const before = resumed > 0 ? ` (${resumed} of them were there already)` : "";
      out.line(`Copied and verified: runs ${runs}${before}, sessions ${sessions}, blobs ${blobs}.`);
      out.line(`Journal rows ${events}, pieces of output ${chunks}, signals ${signals}, start keys ${starts}.`);
      out.line(`SHA-256 of all of it, on both sides: ${hash}`);
    }
    return exit.ok;
  } finally {
    screen.close();
    await Promise.all([source.close(), target.close()]);
  }
}

const PHASES: Readonly<Record<CopyProgress["phase"], string>> = {
  comparing: "Looking at what the target holds already.",
  copying: "Copying. It can be interrupted at any time: the same command goes on.",
  verifying: "Comparing both sides.",
};

function statusOf({ phase, runs, sessions, blobs, bytes }: CopyProgress): string {
  return `${phase}: runs ${runs}, sessions ${sessions}, blobs ${blobs}, ${Math.round(bytes / 2 ** 20)} MiB`;
}

async function distribute(call: Invocation, out: Output): Promise<ExitCode> {
  const url = required(call, "store");
  if (!isPostgres(url)) {
    throw new GroundcrewError("CONFIG_INVALID", "Only a store in PostgreSQL can be distributed; this is a SQLite file.", {
      fix: "Move it up first: `groundcrew store copy --from file:… --to postgres://…`.",
    });
  }
  const opened = await openStore(url); // which also brings its tables up to date
  await opened.close();
  const { distribute } = await import("../postgres/distribute.ts");
  const tables = await distribute(url, opened.location);
  if (out.json) out.document({ store: opened.location, distributed: tables });
  else if (tables.length === 0) out.line(`${inert(opened.location)} is distributed already.`);
  else out.line(`Distributed by shard: ${tables.join(", ")}.`);
  return exit.ok;
}

/** A store that is read has to be there: opening a file would make one. */
function openExisting(location: string): Promise<Store> {
  if (isPostgres(location) || existsSync(fileOf(location))) return openStore(location);
  throw new GroundcrewError("STORE_UNAVAILABLE", `There is no store file ${resolve(fileOf(location))}.`, { value: location });
}

function required(call: Invocation, option: string): string {
  const given = call.text(option);
  if (given) return given;
  throw usage(`\`groundcrew store ${call.args[0]}\` needs --${option}.`, "`groundcrew help store` shows how.");
}
