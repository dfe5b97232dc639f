/**
 * One PostgreSQL for all test files of a run. It costs a second or two, so it starts when the first file asks: what is
 * provided is a port that answers with the server's URL.
 */
import { once } from "node:events";
import { createServer, type Socket } from "node:net";
import type { TestProject } from "vitest/node";
import { type Postgres, startPostgres } from "./postgres.ts";
import { hasPostgres } from "./postgres-binaries.ts";

// No test takes the power away from this server, so nothing is gained by waiting for the disk.
const SETTINGS = { fsync: "off", synchronous_commit: "off", full_page_writes: "off" };

export async function setup(project: TestProject): Promise<() => Promise<void>> {
  if (!hasPostgres) console.warn(`Tests that need PostgreSQL: not run, there is none for ${process.platform}-${process.arch}.`);
  const given = process.env["GROUNDCREW_TEST_POSTGRES"];
  let server: Promise<Postgres> | undefined;
  const url = async () => {
    if (given) return given;
    server ??= startPostgres({ settings: SETTINGS });
    return (await server).url;
  };
  const answer = (socket: Socket) => {
    socket.on("error", () => {}); // the test file went away
    url().then(
      (found) => socket.end(JSON.stringify({ url: found })),
      (error: Error) => socket.end(JSON.stringify({ error: error.message })),
    );
  };
  const desk = createServer(answer).listen(0, "127.0.0.1");
  await once(desk, "listening");
  project.provide("postgres", (desk.address() as { port: number }).port);
  return async () => {
    desk.close();
    await (await server?.catch(() => undefined))?.remove();
  };
}
