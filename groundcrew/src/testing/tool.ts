import { jsonSchema, type Tool, tool } from "ai";

/** What one call of the tool does: what the tool does, answer this, fail with this error or value, or never end (until it is told to stop). */
export type ToolFault = "ok" | "hang" | "hang, ignoring its signal" | Error | { throws: unknown } | { returns: unknown };

export type FaultyTool<TOOL extends Tool> = TOOL & { /** How often it was called. */ readonly executions: number };

/**
 * The tool with faults, in turn; behind the last one it is the tool again.
 *
 * ```ts
 * const lookup = withFaults(lookupOrder, [new Error("The database is away."), "hang", "ok"]);
 * ```
 */
export function withFaults<TOOL extends Tool>(wrapped: TOOL, script: readonly ToolFault[]): FaultyTool<TOOL> {
  return faulty(wrapped, (n) => script[n] ?? "ok");
}

/** A tool that takes anything and always fails. @param thrown an error, or whatever else a tool may throw */
export function failingTool(thrown: unknown = new Error("This tool always fails.")): FaultyTool<Tool<unknown, unknown>> {
  return faulty(stub(), () => ({ throws: thrown }));
}

/** A tool that takes anything and never ends, whatever its signal says. */
export function hangingTool(): FaultyTool<Tool<unknown, unknown>> {
  return faulty(stub(), () => "hang, ignoring its signal");
}

function stub(): Tool<unknown, unknown> {
  return tool({ inputSchema: jsonSchema<unknown>({}), execute: (): unknown => undefined });
}

/** @param play what the call number `n` does, from 0 */
function faulty<TOOL extends Tool>(wrapped: TOOL, play: (n: number) => ToolFault): FaultyTool<TOOL> {
  let executions = 0;
  const execute = async (input: unknown, options: { abortSignal?: AbortSignal | undefined }) => {
    const what = play(executions++);
    if (what instanceof Error) throw what;
    if (typeof what === "object") {
      if ("throws" in what) throw what.throws;
      return what.returns;
    }
    if (what === "ok") return (wrapped.execute as (input: unknown, options: unknown) => unknown)(input, options);
    return new Promise((_resolve, reject) => {
      if (what === "hang") options.abortSignal?.addEventListener("abort", () => reject(options.abortSignal?.reason), { once: true });
    });
  };
  const made = { ...wrapped, execute };
  Object.defineProperty(made, "executions", { get: () => executions });
  return made as unknown as FaultyTool<TOOL>;
}
