/**
 * One shape for every failure. The caller's own mistakes (4xx) come with `detail`, which names the field; of ours (5xx) the
 * caller is told nothing but a reference, and the operator is told the cause under the same reference.
 */
import { randomUUID } from "node:crypto";
import { RequestError } from "@hono/node-server";
import type { Context } from "hono";
import { HTTPException } from "hono/http-exception";
import type { ContentfulStatusCode } from "hono/utils/http-status";
import type { ZodError } from "zod";
import { coerceError, GroundcrewError, isError } from "../errors.ts";
import type { ErrorBody } from "../wire.ts";

/** Told of every failure of the server's own. `reference` is what the caller was given to quote. */
export type Report = (error: Error, reference: string) => void;

export const reportToConsole: Report = (error, reference) => console.error(`groundcrew: request failed, reference ${reference}:`, error);

/** What a caller is told of whatever was thrown. */
export function failureOf(thrown: unknown, report: Report): { body: ErrorBody; error: GroundcrewError } {
  const error = toOurs(thrown);
  const isCallers = error.status < 500;
  const reference = error.run ?? (isCallers ? undefined : randomUUID());
  if (!isCallers) report(coerceError(thrown), reference ?? "");
  const body: ErrorBody["error"] = { code: error.code, message: error.userMessage };
  if (isCallers) body.detail = error.message;
  if (reference !== undefined) body.reference = reference;
  if (error.code === "APPROVAL_ENDED") body.decided = error.value as NonNullable<ErrorBody["error"]["decided"]>; // see `endedError`
  if (error.retryAfterMs !== undefined) body.retry_after = Math.ceil(error.retryAfterMs / 1000);
  return { body: { error: body }, error };
}

/** The answer to a request that failed. */
export function failureResponse(c: Context, thrown: unknown, report: Report): Response {
  const { body, error } = failureOf(thrown, report);
  if (body.error.retry_after !== undefined) c.header("retry-after", String(body.error.retry_after));
  if (error.code === "UNAUTHENTICATED") c.header("www-authenticate", "Bearer");
  return c.json(body, error.status as ContentfulStatusCode);
}

/** The answer to what is not even a request, before there is an app to handle it. */
export function plainFailure(thrown: unknown, report: Report): Response {
  const { body, error } = failureOf(thrown, report);
  return Response.json(body, { status: error.status });
}

function toOurs(thrown: unknown): GroundcrewError {
  if (isError(thrown)) return thrown;
  if (thrown instanceof RequestError) return new GroundcrewError("INPUT_INVALID", `${thrown.message}.`);
  if (thrown instanceof HTTPException && thrown.status === 415) {
    return new GroundcrewError("INPUT_INVALID", "Expected the header `content-type` to be application/json.");
  }
  if (thrown instanceof HTTPException && thrown.status === 400) return new GroundcrewError("INPUT_INVALID", `${thrown.message}.`);
  return new GroundcrewError("INTERNAL", "The request failed.", { cause: thrown });
}

const MAX_ISSUES = 5; // a list of a thousand wrong items is one mistake

const places: Record<string, string> = { json: "body", query: "query", param: "path", header: "header" };

/** What a schema found, naming each field by its path. */
export function invalidInput(target: string, { issues }: ZodError): GroundcrewError {
  const place = places[target] ?? target;
  const found = issues.slice(0, MAX_ISSUES).map(({ path, message }) => `\`${[place, ...path.map(String)].join(".")}\`: ${message}`);
  return new GroundcrewError("INPUT_INVALID", `${found.join("; ")}.`);
}
