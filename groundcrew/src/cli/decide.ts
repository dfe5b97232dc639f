/** What a person says to a request: `approve`, `deny`, `answer`, `delegate`. */
import { REQUESTER } from "../approval.ts";
import { describe, isError } from "../errors.ts";
import { MAX_SIMILAR_USES } from "../limits.ts";
import type { Decision } from "../runtime.ts";
import { decideCommands, summaryLines } from "./approval-text.ts";
import { type Invocation, parseCount, parseDuration, parseJson, readGiven, usage } from "./arguments.ts";
import { type ExitCode, exit } from "./exit.ts";
import { onApproval } from "./on-approval.ts";
import type { Output } from "./output.ts";
import { shellWord } from "./terminal.ts";

export async function approve(call: Invocation, out: Output): Promise<ExitCode> {
  const [reason, edited] = [call.text("reason"), call.text("input")];
  const similar = similarOf(call);
  const input = edited === undefined ? undefined : parseJson(await readGiven(edited, "--input"), "--input");
  return decide(call, out, {
    do: "approve",
    ...(reason !== undefined && { reason }),
    ...(edited !== undefined && { input }),
    ...(similar && { similar }),
  });
}

function similarOf(call: Invocation) {
  const [uses, within] = [call.text("similar"), call.text("within")];
  if (uses === undefined && within === undefined) return undefined;
  if (uses === undefined || within === undefined) {
    throw usage("--similar and --within go together.", "E.g. --similar 5 --within 1h: the next five calls within an hour.");
  }
  return { uses: parseCount(uses, "similar", 1, MAX_SIMILAR_USES), within: parseDuration(within, "within") };
}

export async function deny(call: Invocation, out: Output): Promise<ExitCode> {
  const reason = call.text("reason");
  if (!reason?.trim()) throw usage("`groundcrew deny` needs --reason.", "The agent is told it, and can try something better.");
  return decide(call, out, { do: "deny", reason });
}

/** What is no JSON is a text as it stands: who answers a question does not think of quotes. */
export async function answer(call: Invocation, out: Output): Promise<ExitCode> {
  const given = await readGiven(call.args[1] ?? "", "the answer");
  return decide(call, out, { do: "answer", answer: answerOf(given) });
}

function answerOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text.trimEnd();
  }
}

export async function delegate(call: Invocation, out: Output): Promise<ExitCode> {
  const [reason, to] = [call.text("reason"), call.args.slice(1)];
  const odd = to.find((target) => target !== REQUESTER && !/^(user|role):./s.test(target));
  if (odd !== undefined) throw usage(`Expected a target such as "user:ana", "role:finance" or "${REQUESTER}", got ${describe(odd)}.`);
  return decide(call, out, { do: "delegate", to, ...(reason !== undefined && { reason }) });
}

/** Says it, and what the request is afterwards: with a quorum, one who agrees does not end it. */
async function decide(call: Invocation, out: Output, decision: Decision): Promise<ExitCode> {
  return onApproval(call, async (backend, id) => {
    const row = await backend.decide(id, decision, call.text("hash")).catch((error: unknown) => {
      throw otherCommand(id, decision, error) ?? error;
    });
    if (out.json) out.document({ approval: row });
    else for (const line of summaryLines(row, out.paint, Date.now())) out.line(line);
    return exit.ok;
  });
}

/** A question that was approved, or something else that was answered: the refusal names a field, and here there are commands. */
function otherCommand(id: string, { do: done }: Decision, error: unknown) {
  if (!isError(error, "INPUT_INVALID") || !error.message.startsWith("Expected `do` ")) return undefined;
  const isQuestion = done === "approve";
  const [meant = ""] = decideCommands({ id, kind: isQuestion ? "question" : "tool" });
  const what = isQuestion ? "this is a question" : "this is no question";
  return usage(`Approval ${shellWord(id)} cannot be ${isQuestion ? "approved" : "answered"}: ${what}.`, `Use \`${meant}\`.`, error);
}
