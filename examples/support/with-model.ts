/** `with-model.ts example.ts`: runs an example that names OpenAI itself; without a key, the scripted model answers in its place. */
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { startModelServer } from "./model-server.ts";

const { OPENAI_API_KEY, OPENAI_BASE_URL } = process.env;
const scripted = OPENAI_API_KEY || OPENAI_BASE_URL ? undefined : await startModelServer();
if (scripted) {
  console.error("OPENAI_API_KEY is not set: a scripted model answers.");
  Object.assign(process.env, { OPENAI_API_KEY: "none", OPENAI_BASE_URL: scripted.url });
}
try {
  await import(pathToFileURL(resolve(process.argv[2] ?? "")).href);
} finally {
  await scripted?.stop();
}
