/**
 * Notices that the server has vanished. A network that swallows packets tells nobody: a statement without an answer may be slow,
 * or it may never be answered. So while somebody waits, the server is asked on a fresh connection; when that gives no sign of life
 * either, all connections are cut, and whoever waits hears of it.
 */
import { Client, type ClientConfig } from "pg";
import { POSTGRES_PROBE_MS, POSTGRES_SILENCE_MS } from "../limits.ts";
import { isAway } from "./error.ts";

export class Pulse {
  readonly #config: ClientConfig;
  readonly #clients = new Set<Client>();
  #feeling: Promise<void> | undefined;

  constructor(config: ClientConfig) {
    this.#config = config;
  }

  /** From now on this connection is cut with the others. */
  add(client: Client): void {
    this.#clients.add(client);
    client.once("end", () => this.#clients.delete(client));
  }

  /** Looks after the server as long as `answer` has not come. */
  async during<T>(answer: Promise<T>): Promise<T> {
    const timer = setInterval(() => {
      this.#feeling ??= this.#feel().finally(() => {
        this.#feeling = undefined;
      });
    }, POSTGRES_SILENCE_MS);
    return answer.finally(() => clearInterval(timer));
  }

  async #feel(): Promise<void> {
    if (await beats(this.#config)) return;
    for (const client of this.#clients) client.connection.stream.destroy();
  }
}

/** A server that refuses is there. */
async function beats(config: ClientConfig): Promise<boolean> {
  const client = new Client(config);
  client.on("error", () => {}); // told by what was asked
  const patience = setTimeout(() => client.connection.stream.destroy(), POSTGRES_PROBE_MS);
  try {
    await client.connect();
    await client.query("select 1");
    return true;
  } catch (error) {
    return !isAway(error);
  } finally {
    clearTimeout(patience);
    client.end().catch(() => {}); // nobody waits for a farewell
  }
}
