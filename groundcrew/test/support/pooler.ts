/**
 * A pooler in transaction mode, as poolers before PostgreSQL are at their strictest: a server's connection is lent for one
 * transaction, the next may go to another, and nothing is known of prepared statements or of who listens. Needs a server that asks for no password.
 */
import { once } from "node:events";
import { connect, createServer, type Server, type Socket } from "node:net";

const SSL_REQUEST = 80_877_103;
const READY = "Z".charCodeAt(0);
const QUERY = "Q".charCodeAt(0);
const SYNC = "S".charCodeAt(0);
const TERMINATE = "X".charCodeAt(0);
const IDLE = "I".charCodeAt(0);

/** What a server says to a client that has come in, before the first statement. */
const WELCOME = Buffer.concat([
  message("R", Buffer.from([0, 0, 0, 0])),
  ...[
    ["server_version", "16.0"],
    ["client_encoding", "UTF8"],
    ["standard_conforming_strings", "on"],
  ].map(([name, value]) => message("S", Buffer.from(`${name}\0${value}\0`))),
  message("K", Buffer.alloc(8)),
  message("Z", Buffer.from("I")),
]);

export class Pooler {
  readonly #server: Server;
  readonly #target: URL;
  readonly #free: Backend[] = [];
  readonly #all = new Set<Backend>();
  readonly #waiting: Frontend[] = [];
  readonly #clients = new Set<Socket>();
  readonly #size: number;
  #opened = 0;
  /** How often a connection of the server went to another client than before. */
  swaps = 0;

  private constructor(target: URL, size: number) {
    this.#target = target;
    this.#size = size;
    this.#server = createServer({ noDelay: true }, (socket) => {
      this.#clients.add(socket);
      new Frontend(socket, this).start();
    });
  }

  /** In front of the server of `url`, with so many connections to it. */
  static async before(url: string, size: number): Promise<Pooler> {
    const pooler = new Pooler(new URL(url), size);
    pooler.#server.listen(0, "127.0.0.1");
    await once(pooler.#server, "listening");
    return pooler;
  }

  get url(): string {
    const through = new URL(this.#target);
    through.port = String((this.#server.address() as { port: number }).port);
    return through.href;
  }

  async close(): Promise<void> {
    const closed = once(this.#server, "close");
    this.#server.close();
    for (const socket of this.#clients) socket.destroy();
    for (const backend of this.#all) backend.socket.destroy();
    await closed;
  }

  /** The client has something to say: it gets a connection, now or when one is free. */
  lend(client: Frontend): void {
    const backend = this.#free.shift(); // the one that has been idle longest: seldom the one that the client had before
    if (backend) return client.take(backend);
    this.#waiting.push(client);
    if (this.#opened >= this.#size) return;
    this.#opened++;
    void Backend.open(this.#target).then((opened) => {
      this.#all.add(opened);
      this.giveBack(opened);
    });
  }

  giveBack(backend: Backend): void {
    const next = this.#waiting.shift();
    if (next) next.take(backend);
    else this.#free.push(backend);
  }

  /** A client that left in the middle takes its connection with it. */
  drop(backend: Backend): void {
    this.#all.delete(backend);
    this.#opened--;
    backend.socket.destroy();
    const next = this.#waiting.shift();
    if (next) this.lend(next);
  }

  forget(client: Frontend, socket: Socket): void {
    this.#clients.delete(socket);
    const at = this.#waiting.indexOf(client);
    if (at >= 0) this.#waiting.splice(at, 1);
  }
}

/** A client's side. */
class Frontend {
  readonly #socket: Socket;
  readonly #pooler: Pooler;
  readonly #frames = new Frames();
  #hasBegun = false;
  #backend: Backend | undefined;
  #isWaiting = false;
  #unsent: Buffer[] = [];
  /** Answers that are still to come. */
  #open = 0;

  constructor(socket: Socket, pooler: Pooler) {
    this.#socket = socket;
    this.#pooler = pooler;
  }

  start(): void {
    this.#socket.on("data", (data) => this.#hear(data));
    this.#socket.on("error", () => {});
    this.#socket.on("close", () => {
      this.#pooler.forget(this, this.#socket);
      if (this.#backend) this.#pooler.drop(this.#backend);
    });
  }

  #hear(data: Buffer): void {
    this.#frames.add(data);
    while (!this.#hasBegun) {
      const startup = this.#frames.untyped();
      if (!startup) return;
      if (startup.readInt32BE(4) === SSL_REQUEST) this.#socket.write("N");
      else {
        this.#hasBegun = true;
        this.#socket.write(WELCOME);
      }
    }
    for (const frame of this.#frames.typed()) {
      if (frame[0] === TERMINATE) return void this.#socket.end();
      if (frame[0] === QUERY || frame[0] === SYNC) this.#open++;
      this.#unsent.push(frame);
    }
    if (this.#unsent.length === 0) return;
    if (this.#backend) return this.#send(this.#backend);
    if (this.#isWaiting) return;
    this.#isWaiting = true;
    this.#pooler.lend(this);
  }

  take(backend: Backend): void {
    this.#isWaiting = false;
    if (backend.last !== this && backend.last !== undefined) this.#pooler.swaps++;
    backend.last = this;
    this.#backend = backend;
    backend.tell = (frame) => this.#tell(backend, frame);
    this.#send(backend);
  }

  #send(backend: Backend): void {
    backend.socket.write(Buffer.concat(this.#unsent));
    this.#unsent = [];
  }

  #tell(backend: Backend, frame: Buffer): void {
    this.#socket.write(frame);
    if (frame[0] !== READY) return;
    this.#open--;
    if (this.#open > 0 || frame[5] !== IDLE) return;
    this.#backend = undefined;
    backend.tell = () => {}; // what is said to nobody, a notification, is lost
    this.#pooler.giveBack(backend);
  }
}

/** A connection to the server. */
class Backend {
  readonly socket: Socket;
  last: Frontend | undefined;
  tell: (frame: Buffer) => void = () => {};

  private constructor(socket: Socket) {
    this.socket = socket;
  }

  static async open(target: URL): Promise<Backend> {
    const socket = connect({ host: target.hostname, port: Number(target.port), noDelay: true });
    const backend = new Backend(socket);
    const frames = new Frames();
    const ready = Promise.withResolvers<void>();
    socket.on("error", () => {});
    backend.tell = (frame) => frame[0] === READY && ready.resolve();
    socket.on("data", (data) => {
      frames.add(data);
      for (const frame of frames.typed()) backend.tell(frame);
    });
    await once(socket, "connect");
    const words = Buffer.from(`user\0${target.username}\0database\0${target.pathname.slice(1)}\0application_name\0pooler\0\0`);
    const head = Buffer.alloc(8);
    head.writeInt32BE(words.length + 8, 0);
    head.writeInt32BE(196_608, 4); // protocol 3.0
    socket.write(Buffer.concat([head, words]));
    await ready.promise;
    return backend;
  }
}

/** Bytes as they come, as the messages that they are. */
class Frames {
  #bytes: Buffer = Buffer.alloc(0);

  add(data: Buffer): void {
    this.#bytes = this.#bytes.length === 0 ? data : Buffer.concat([this.#bytes, data]);
  }

  /** The first message of a client has a length, and no type. */
  untyped(): Buffer | null {
    return this.#bytes.length < 4 ? null : this.#cut(this.#bytes.readInt32BE(0));
  }

  *typed(): Generator<Buffer> {
    while (this.#bytes.length >= 5) {
      const frame = this.#cut(1 + this.#bytes.readInt32BE(1));
      if (!frame) return;
      yield frame;
    }
  }

  #cut(length: number): Buffer | null {
    if (this.#bytes.length < length) return null;
    const frame = this.#bytes.subarray(0, length);
    this.#bytes = this.#bytes.subarray(length);
    return frame;
  }
}

function message(type: string, body: Buffer): Buffer {
  const head = Buffer.alloc(5);
  head.write(type, 0);
  head.writeInt32BE(body.length + 4, 1);
  return Buffer.concat([head, body]);
}
