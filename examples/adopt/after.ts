import { agent, groundcrew } from "groundcrew";
import { settings } from "../support/agent.ts";

const support = agent("support", { ...settings, policy: { lookupOrder: { effect: "read" }, refund: { effect: "keyed" } } });
const crew = groundcrew({ agents: [support] });
const run = await crew.start(support, { prompt: "My order A-1042 arrived broken. I want my money back." });
const text = await run.result();

console.log(text);
await crew.close();
