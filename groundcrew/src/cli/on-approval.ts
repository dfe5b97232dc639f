/** What commands about one request share: a mistake in its id is told with what was probably meant. */
import { GroundcrewError, isError } from "../errors.ts";
import { isApprovalId } from "../persistence/approval.ts";
import type { Invocation } from "./arguments.ts";
import type { Backend } from "./backend.ts";
import type { ExitCode } from "./exit.ts";
import { openBackend } from "./place.ts";

export async function onApproval(call: Invocation, what: (backend: Backend, id: string) => Promise<ExitCode>): Promise<ExitCode> {
  const id = call.args[0] ?? "";
  const backend = await openBackend(call, "runs");
  try {
    return await what(backend, id);
  } catch (error) {
    if (!isError(error, "APPROVAL_NOT_FOUND") || isApprovalId(id)) throw error;
    const fix = await requestsOf(backend, id);
    throw fix === undefined ? error : new GroundcrewError("APPROVAL_NOT_FOUND", error.message, { value: id, fix, cause: error });
  } finally {
    await backend.close();
  }
}

/** @returns undefined when there is no run of this id either. */
async function requestsOf(backend: Backend, id: string): Promise<string | undefined> {
  try {
    const { approvals } = await (await backend.run(id)).view();
    if (approvals.length === 0) return "That is a run, and it has no open requests.";
    return `That is a run; its open requests: ${approvals.map((one) => one.id).join(", ")}.`;
  } catch (error) {
    if (isError(error)) return undefined;
    throw error;
  }
}
