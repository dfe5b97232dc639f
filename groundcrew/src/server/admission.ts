/**
 * Back-pressure: what is more than one process can hold is refused before its body is read, with the time after which to come
 * back. A flood then costs an answer each, and no memory. Health is never refused.
 */
import type { MiddlewareHandler } from "hono";
import { GroundcrewError } from "../errors.ts";
import { MAX_BODIES_BYTES, MAX_BODY_BYTES, MAX_REQUESTS, MAX_STREAMS, OVERLOADED_RETRY_MS } from "../limits.ts";
import { LoopLag } from "./loop-lag.ts";

export interface Most {
  requests?: number;
  streams?: number;
}

export class Admission {
  readonly #most: Required<Most>;
  readonly #lag = new LoopLag();
  #requests = 0;
  #bytes = 0;
  #streams = 0;

  constructor({ requests = MAX_REQUESTS, streams = MAX_STREAMS }: Most = {}) {
    this.#most = { requests, streams };
  }

  /** Holds a place until the request is answered; a stream has a place of its own from then on. */
  readonly admit: MiddlewareHandler = async (c, next) => {
    const bytes = weightOf(c.req.raw);
    if (this.#lag.isBehind()) throw overloaded("the process does not keep up with what it has to do");
    if (this.#requests >= this.#most.requests) throw overloaded(`${this.#most.requests} requests are being answered`);
    if (this.#bytes + bytes > MAX_BODIES_BYTES) throw overloaded("the bodies of requests fill the memory that is there for them");
    this.#requests++;
    this.#bytes += bytes;
    try {
      await next();
    } finally {
      this.#requests--;
      this.#bytes -= bytes;
    }
  };

  /** For who does something before its stream begins, and does it for nothing when there is no place. @throws GroundcrewError `OVERLOADED` */
  mustHaveRoom(): void {
    if (this.#streams >= this.#most.streams) throw overloaded(`${this.#most.streams} streams are open`);
  }

  /** @returns to be called when the stream is over. @throws GroundcrewError `OVERLOADED` */
  enterStream(): () => void {
    this.mustHaveRoom();
    this.#streams++;
    let isOver = false;
    return () => {
      if (!isOver) this.#streams--;
      isOver = true;
    };
  }
}

/** What its body may come to. One that does not say counts as the largest there may be. */
function weightOf(request: Request): number {
  if (request.method === "GET" || request.method === "HEAD" || request.body === null) return 0;
  const length = Number(request.headers.get("content-length") ?? Number.NaN);
  return Number.isFinite(length) ? Math.min(Math.max(0, length), MAX_BODY_BYTES) : MAX_BODY_BYTES;
}

function overloaded(why: string): GroundcrewError {
  return new GroundcrewError("OVERLOADED", `Not now: ${why}.`, {
    retryAfterMs: OVERLOADED_RETRY_MS,
    fix: "Try again after the time in `Retry-After`.",
  });
}
