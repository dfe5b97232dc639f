import { ToolLoopAgent } from "ai";
import { settings } from "../support/agent.ts";

const support = new ToolLoopAgent(settings);

const { text } = await support.generate({ prompt: "My order A-1042 arrived broken. I want my money back." });

console.log(text);
