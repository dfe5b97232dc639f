/**
 * What a `useChat` client answers with `addToolApprovalResponse`: of its message only which approval, yes or no, and why is taken. What
 * the call is, and who may decide it, is ours to know.
 */
import { z } from "zod";
import { GroundcrewError } from "../errors.ts";
import { MAX_NAME_CHARS, MAX_REASON_CHARS } from "../limits.ts";
import type { ApprovalRow } from "../persistence/approval.ts";
import type { Crew, Decision, Run, Shown } from "../runtime.ts";

const response = z.object({
  approval: z.object({
    id: z.string().min(1).max(MAX_NAME_CHARS),
    approved: z.boolean(),
    reason: z.string().max(MAX_REASON_CHARS).optional(),
  }),
});

export type Answered = z.output<typeof response>["approval"];

/**
 * What the last message answers; nothing when it asks something.
 * @throws GroundcrewError `INPUT_INVALID` for an answer that cannot be understood: it is not passed by, as if it had not been given
 */
export function answersOf(messages: readonly unknown[]): Answered[] {
  const { role, parts } = Object(messages.at(-1)) as { role?: unknown; parts?: unknown };
  if (role !== "assistant" || !Array.isArray(parts)) return [];
  return parts.flatMap((part, index) => {
    if (Object(part).state !== "approval-responded") return [];
    const checked = response.safeParse(part);
    if (checked.success) return [checked.data.approval];
    throw new GroundcrewError(
      "INPUT_INVALID",
      `Expected \`parts.${index}.approval\` to have \`id\`, \`approved\` and at most a \`reason\`.`,
    );
  });
}

/** Says it for whoever asks. */
type Decide = (id: string, decision: Decision, shown: Shown) => Promise<ApprovalRow>;

/**
 * Says what is new of it for the user. A message brings along what it has answered before: an answer that became the outcome is passed by
 * beside a new one. Alone, it is a replay, and refused like any other word that comes too late.
 * @param run the chat's turn, if it has one: what another has asked is not decided here, and that it was tried goes on record.
 * @returns behind which place of the stream the client has not seen it.
 * @throws GroundcrewError `APPROVAL_NOT_FOUND`, `APPROVAL_ENDED`, `FORBIDDEN`, `INPUT_INVALID`
 */
export async function answerAll(crew: Crew, run: Run | undefined, answers: readonly Answered[], decide: Decide): Promise<string> {
  const known = await Promise.all(answers.map(async (answer) => ({ ...answer, row: await crew.approval(answer.id) })));
  const place = placeOf((await run?.journal()) ?? [], new Set(known.map(({ id }) => id)));
  const isNew = known.filter(({ row, approved }) => row.run !== run?.id || row.status !== (approved ? "approved" : "denied"));
  for (const { id, approved, reason, row } of isNew.length > 0 ? isNew : known) {
    const decision: Decision = approved
      ? { do: "approve", ...(reason && { reason }) }
      : { do: "deny", reason: reason?.trim() || NO_REASON };
    await decide(id, decision, { run: run?.id ?? NO_RUN, hash: row.request.hash }); // the arguments that a chat shows are the model's
  }
  return place;
}

/** No approval is of it. */
const NO_RUN = "";
const NO_REASON = "The user said no.";

/** Where a client's stream ended when it was asked: the run was parked behind the first of these requests. What comes twice changes nothing. */
function placeOf(events: Awaited<ReturnType<Run["journal"]>>, approvals: ReadonlySet<string>): string {
  const asked = events.findIndex((event) => event.type === "approval.requested" && approvals.has(event.approval));
  const parked = events.find((event, index) => index > asked && event.type === "run.parked" && event.reason === "approval");
  return String(parked?.seq ?? events.length); // still at work: whoever answers now has followed it up to here
}
