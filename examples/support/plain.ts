/** The support agent on the AI SDK alone: a conversation of two turns. Kill it in the middle and the conversation is gone. */
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type ModelMessage, ToolLoopAgent } from "ai";
import { startLedger } from "./ledger.ts";
import { startModelServer } from "./model-server.ts";

const model = await startModelServer();
const ledger = await startLedger({ file: join(mkdtempSync(join(tmpdir(), "support-")), "ledger.jsonl") });
process.env["GROUNDCREW_DEMO_MODEL_URL"] = model.url;
process.env["GROUNDCREW_DEMO_LEDGER_URL"] = ledger.url;

const { settings } = await import("./agent.ts"); // reads the two addresses
const agent = new ToolLoopAgent(settings);
const history: ModelMessage[] = [];

async function turn(text: string): Promise<void> {
  console.log(`\nDana: ${text}`);
  history.push({ role: "user", content: text });
  const result = await agent.stream({ messages: history });
  for await (const part of result.stream) {
    if (part.type === "text-start") process.stdout.write("Agent: ");
    if (part.type === "text-delta") process.stdout.write(part.text);
    if (part.type === "text-end") process.stdout.write("\n");
    if (part.type === "tool-call") console.log(`  → ${part.toolName} ${JSON.stringify(part.input)}`);
    if (part.type === "tool-result") console.log(`  ← ${JSON.stringify(part.output)}`);
    if (part.type === "error") throw part.error;
  }
  history.push(...(await result.responseMessages));
}

try {
  await turn("My order A-1042 arrived broken. I want my money back.");
  await turn("Thanks! When will the money arrive?");
  console.log("\nWhat reached the outside world:");
  for (const entry of ledger.entries()) console.log(`  ${JSON.stringify(entry)}`);
} finally {
  await Promise.all([model.stop(), ledger.stop()]);
}
