import { agent } from "groundcrew";
import { findEmail, settings } from "./agent.ts";

/** The support agent, made durable: its settings as they are, and facts about its tools beside them. */
export const support = agent("support", {
  ...settings,
  policy: {
    lookupOrder: { effect: "read" }, // repeated freely

    // The bank knows idempotency keys, and the tool sends the call's id as one. After a crash it is asked again, with the same key.
    refund: { effect: "keyed" },

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
