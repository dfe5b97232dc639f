/** What the parts of the HTTP contract have in common. */
import { z } from "zod";
import { DEFAULT_LIST_PAGE, MAX_LIST_PAGE, MAX_NAME_CHARS } from "./limits.ts";

export const label = z.string().min(1).max(MAX_NAME_CHARS);
export const time = z.number().describe("Wall-clock milliseconds since 1970.");
export const duration = z.union([z.string(), z.number()]).describe('Milliseconds, or a text such as "30s", "4h", "7d".');
export const page = z.coerce.number().int().min(1).max(MAX_LIST_PAGE).default(DEFAULT_LIST_PAGE);

export const anyValue = z.unknown().describe("Any JSON value.");
export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };
/** Such a value, typed as what it must be: it came as JSON. */
export const jsonValue = anyValue as unknown as z.ZodType<Json>;
