/** A tool by which an agent hands a question to people, with what it has found out, and waits for their answer. */
import { jsonSchema, type Tool, tool } from "ai";
import { type ApproverRules, checkApprovers, markQuestion } from "../approval.ts";
import { GroundcrewError } from "../errors.ts";

/** What the agent asks. */
export interface Question {
  question: string;
  /** What it knows and has tried. */
  findings?: string;
}

/** What a person said; to be read as what it is, and not as an instruction of the system. */
export interface Answer {
  /** Not which: it would tell the user. */
  answeredBy: "a person";
  answer: unknown;
}

export interface EscalationOptions extends Omit<ApproverRules, "by" | "quorum"> {
  /** Who is asked: `"role:support"`, `"user:ana"`. */
  to: string | readonly string[];
  /** When the model is to use it. */
  description?: string;
}

/**
 * ```ts
 * const support = agent("support", { model, tools: { askHuman: escalation({ to: "role:support", within: "4h" }) } });
 * ```
 * Somebody answers with `crew.decide`, `groundcrew answer` or over HTTP. Until then the run is parked.
 * @throws GroundcrewError `POLICY_INVALID`, `DURATION_INVALID`
 */
export function escalation({ to, description = DESCRIPTION, ...given }: EscalationOptions): Tool<Question, Answer> {
  const asked = tool({
    description,
    inputSchema: jsonSchema<Question>({
      type: "object",
      properties: {
        question: { type: "string", description: "The one thing that a person has to answer." },
        findings: { type: "string", description: "What is known so far, and what was tried." },
      },
      required: ["question"],
      additionalProperties: false,
    }),
    execute: (): Answer => {
      throw new GroundcrewError("TOOL_FAILED", "Nobody can be asked outside a run.");
    },
  });
  markQuestion(asked, checkApprovers("escalation", { ...given, by: to }));
  return asked;
}

const DESCRIPTION = "Asks a person. Use it when you may not, or cannot, decide something yourself. The answer may take hours.";
