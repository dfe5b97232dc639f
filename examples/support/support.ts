import { agent } from "groundcrew";
import { findEmail, settings } from "./agent.ts";

/** In dollars: what the agent may refund by itself. */
const LIMIT = 200;

/** For the demo without anybody, everything goes faster. */
const patience = process.env["GROUNDCREW_DEMO_UNATTENDED"]
  ? ({ within: "6s", escalate: { to: "role:lead", after: "3s" } } as const)
  : ({ within: "4h", escalate: "role:lead" } as const);

/** The support agent, made durable: its settings as they are, and facts about its tools beside them. */
export const support = agent("support", {
  ...settings,
  policy: {
    lookupOrder: { effect: "read" }, // repeated freely

    // The bank knows idempotency keys, and the tool sends the call's id as one. After a crash it is asked again, with the same key.
    // Above the limit somebody in finance has to agree first, to exactly this amount. Here everybody is the local user, so they may
    // also be who asks; leave `selfApproval` out where people have names.
    refund: {
      effect: "keyed",
      approve: ({ amount }) => amount > LIMIT && `$${amount} is above the limit of $${LIMIT}`,
      by: "role:finance",
      selfApproval: true,
      ...patience,
    },

    // The mail service knows no keys: a repeat would be a second e-mail. After a crash this looks whether it went out; without
    // such a hook, or when it cannot tell, the run would wait for a person.
    sendEmail: {
      effect: "once",
      reconcile: async (email, { signal }) => {
        const emailId = await findEmail(email, signal);
        return emailId === undefined ? { happened: false } : { happened: true, result: { emailId } };
      },
    },
  },
});
