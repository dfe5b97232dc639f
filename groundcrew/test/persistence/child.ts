/**
 * A process of its own, for the tests: opens the store, and does as it is told.
 *
 * open <file>: prints the code it failed with, or "open".
 * write <file> <runs>: appends to its runs side by side, for ever, and prints "<run> <seq>" for each append that was acknowledged.
 */
import { writeSync } from "node:fs";
import { isError } from "../../src/errors.ts";
import { thisWorker } from "../../src/persistence/host.ts";
import { openSqlite } from "../../src/sqlite/open.ts";

const [, , task, file = "", runs = "0"] = process.argv;
const say = (line: string) => writeSync(1, `${line}\n`);

async function open(): Promise<void> {
  try {
    const store = await openSqlite(file);
    await store.close();
    say("open");
  } catch (error) {
    say(isError(error) ? error.code : String(error));
  }
}

async function write(): Promise<void> {
  const store = await openSqlite(file);
  const { id: worker } = thisWorker();
  await store.join(thisWorker(worker), 60_000);
  const principal = { tenant: "t", user: "u", roles: [] };
  const deadline = Date.now() + 60_000;
  const agent = `writer-${process.pid}`;
  for (let i = 0; i < Number(runs); i++) {
    const created = { type: "run.created", agent, principal, deadline, seq: 1, at: Date.now() } as const;
    const id = `${process.pid}-${i}`;
    await store.create({ id, agent, principal, deadline, dueAt: Date.now(), events: [created], blobs: [] });
    say(`${id} 1`);
  }
  const claims = await store.claim(worker, [agent], Number(runs));
  await Promise.all(
    claims.map(async ({ run, epoch }) => {
      for (let seq = 2; ; seq++) {
        const event = { type: "run.released", why: "x".repeat(500), seq, at: Date.now() } as const;
        await store.append({ run: run.id, worker, epoch, events: [event], chunks: [], blobs: [], consumed: [] });
        say(`${run.id} ${seq}`);
      }
    }),
  );
}

await (task === "open" ? open() : write());
