/** Server-sent events as an answer. */
import type { HttpBindings } from "@hono/node-server";
import type { Context } from "hono";
import { type Frame, sseHeaders, sseStream } from "../stream/sse.ts";
import type { Admission } from "./admission.ts";
import type { ServerEnv } from "./authenticate.ts";
import type { Report } from "./failure.ts";

/** What every stream of the server needs to end well. */
export interface Streams {
  /** Fires when the server closes: streams end, and their readers reconnect elsewhere. */
  closing: AbortSignal;
  /** Told when one fails: its status is long sent. */
  report: Report;
  /** How many there may be. */
  admission: Admission;
}

/** @param onClose told once, when nobody reads any more. @throws GroundcrewError `OVERLOADED` */
export function sseResponse(
  c: Context<ServerEnv>,
  { admission }: Streams,
  frames: AsyncIterator<Frame>,
  onClose: () => void,
  headers: Record<string, string> = {},
): Response {
  const leave = placeFor(admission, onClose);
  const close = () => {
    leave();
    onClose();
  };
  return c.body(sseStream(frames, { onClose: close, cut: () => disconnect(c) }), 200, { ...sseHeaders, ...headers });
}

function placeFor(admission: Admission, onRefused: () => void): () => void {
  try {
    return admission.enterStream();
  } catch (error) {
    onRefused();
    throw error;
  }
}

/** Under Node the socket is at hand; elsewhere the host of the app has to look after readers that take nothing. */
function disconnect(c: Context<ServerEnv>): void {
  (c.env as Partial<HttpBindings> | undefined)?.outgoing?.destroy();
}
