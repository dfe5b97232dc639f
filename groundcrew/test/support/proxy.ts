/** A TCP proxy that does to connections what networks do. */
import { once } from "node:events";
import { connect, createServer, type Server, type Socket } from "node:net";

/**
 * Told of all that a connection brings, before it goes on. "drop": it does not; "cut": it does not, and both sides are reset;
 * "desert": it does not, and only the client's side is reset: the server goes on waiting; "late": so it is, and `deliver` brings it.
 * Bytes: the client is told these instead, and both sides are closed.
 */
export type Tap = (data: Buffer, of: Passing) => "pass" | "drop" | "cut" | "desert" | "late" | Uint8Array;

export interface Passing {
  from: "client" | "server";
  /** Of this proxy, from 1. */
  connection: number;
}

export class TcpProxy {
  /** Listens in; by default everything passes. */
  tap: Tap = () => "pass";
  #connections = 0;
  readonly #late: (() => Promise<void>)[] = [];
  readonly #server: Server;
  readonly #target: number;
  readonly #sockets = new Set<Socket>();
  #isHolding = false;
  #isRefusing = false;

  private constructor(target: number) {
    this.#target = target;
    this.#server = createServer({ noDelay: true }, (near) => this.#serve(near));
  }

  /** In front of `port` of this machine. */
  static async before(port: number): Promise<TcpProxy> {
    const proxy = new TcpProxy(port);
    proxy.#server.listen(0, "127.0.0.1");
    await once(proxy.#server, "listening");
    return proxy;
  }

  get port(): number {
    return (this.#server.address() as { port: number }).port;
  }

  /** The same URL through the proxy. */
  url(direct: string): string {
    const through = new URL(direct);
    through.port = String(this.port);
    return through.href;
  }

  /** Resets all connections. */
  cut(): void {
    for (const socket of [...this.#sockets]) socket.resetAndDestroy();
  }

  /** A black hole: from now on nothing comes through, in no direction, and nobody is told. */
  hold(): void {
    this.#isHolding = true;
    for (const socket of this.#sockets) socket.pause();
  }

  /** What was held back arrives late. */
  resume(): void {
    this.#isHolding = false;
    for (const socket of this.#sockets) socket.resume();
  }

  /** From now on new connections are reset. */
  refuse(): void {
    this.#isRefusing = true;
  }

  accept(): void {
    this.#isRefusing = false;
  }

  /** What was late arrives. Over when its server has answered it. */
  async deliver(): Promise<void> {
    await Promise.all(this.#late.splice(0).map((arrive) => arrive()));
  }

  async close(): Promise<void> {
    const closed = once(this.#server, "close");
    this.#server.close();
    this.cut();
    await closed;
  }

  #serve(near: Socket): void {
    if (this.#isRefusing) {
      near.resetAndDestroy();
      return;
    }
    const far = connect({ port: this.#target, host: "127.0.0.1", noDelay: true });
    const connection = ++this.#connections;
    const both = { near, far, isDeserted: false };
    this.#pass(both, { from: "client", connection });
    this.#pass(both, { from: "server", connection });
  }

  #pass(both: { near: Socket; far: Socket; isDeserted: boolean }, of: Passing): void {
    const [from, to] = of.from === "client" ? [both.near, both.far] : [both.far, both.near];
    this.#sockets.add(from);
    if (this.#isHolding) from.pause();
    from.on("data", (data) => {
      const fate = this.tap(data, of);
      if (fate === "pass" && !both.isDeserted && !to.write(data)) from.pause();
      both.isDeserted ||= fate === "desert" || fate === "late";
      if (fate === "late") this.#late.push(() => arrive(data, both.far));
      if (fate === "cut") both.far.resetAndDestroy();
      if (typeof fate !== "string") {
        both.near.end(fate);
        both.far.destroy();
      } else if (fate !== "pass" && fate !== "drop") both.near.resetAndDestroy();
    });
    to.on("drain", () => {
      if (!this.#isHolding) from.resume();
    });
    from.on("end", () => to.end());
    from.on("error", () => both.isDeserted || to.resetAndDestroy());
    from.on("close", () => {
      this.#sockets.delete(from);
      if (!both.isDeserted) to.destroySoon();
    });
  }
}

/** Until a PostgreSQL is through with it: ready for more, and in no transaction. */
async function arrive(data: Buffer, far: Socket): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  far.on("data", (answer: Buffer) => {
    if (answer.includes("Z\0\0\0\u0005I")) resolve();
  });
  far.write(data);
  await promise;
}
