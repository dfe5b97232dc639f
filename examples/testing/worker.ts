/** What the tests kill: a process that works on the store it is given. Its model decides by what it is shown, so it can go on anywhere. */
import { groundcrew } from "groundcrew";
import { scriptedModel } from "groundcrew/testing";
import { supportAgent } from "./agent.ts";

export const model = () =>
  scriptedModel(({ prompt }) => {
    const results = prompt.filter(({ role }) => role === "tool").length;
    if (results === 0) return { calls: [{ tool: "refund", input: { orderId: "A-1042" } }] };
    if (results === 1) return { calls: [{ tool: "sendEmail", input: { text: "Your money is on its way." } }] };
    return "Your money is on its way.";
  });

if (import.meta.main) {
  const [store = "", world = ""] = process.argv.slice(2);
  const support = supportAgent(model(), world);
  const crew = groundcrew({ agents: [support], store });
  await (await crew.start(support, { prompt: "I want my money back." })).result();
  await crew.close();
}
