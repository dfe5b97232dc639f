/** The world around the examples, for when nothing else is there: a scripted model, a bank and a mail service on this machine. */
import { mkdirSync } from "node:fs";
import { dirname } from "node:path";
import { startLedger } from "./ledger.ts";
import { startModelServer } from "./model-server.ts";

const MODELS = ["ANTHROPIC_API_KEY", "OPENAI_BASE_URL", "OPENAI_API_KEY", "GROUNDCREW_DEMO_MODEL_URL"] as const;

/** Whether a real model answers. */
export function isModelReal(): boolean {
  return MODELS.slice(0, -1).some((name) => process.env[name]);
}

/** Starts what the environment does not name, and names it there. Before `agent.ts` is loaded: it reads the environment. */
export async function openOutside(file = ".groundcrew/outside.jsonl"): Promise<void> {
  if (!MODELS.some((name) => process.env[name])) process.env["GROUNDCREW_DEMO_MODEL_URL"] = (await startModelServer()).url;
  if (process.env["GROUNDCREW_DEMO_LEDGER_URL"]) return;
  mkdirSync(dirname(file), { recursive: true });
  process.env["GROUNDCREW_DEMO_LEDGER_URL"] = (await startLedger({ file })).url;
}
