import { join } from "node:path";
import { SqliteSaver } from "@langchain/langgraph-checkpoint-sqlite";
import { contend } from "../contender.ts";
import { DURABILITY, runnerOf } from "./langgraph.ts";
import { versionOf } from "./version.ts";

await contend(async ({ folder }) => {
  const saver = SqliteSaver.fromConnString(join(folder, "langgraph.db"));
  saver.db.pragma("synchronous = full");
  return {
    version: `${versionOf("@langchain/langgraph")}, ${versionOf("@langchain/langgraph-checkpoint-sqlite")}`,
    settings: `${DURABILITY}; WAL and synchronous=FULL (its default, NORMAL, loses the last steps with the power)`,
    run: runnerOf(saver),
    close: async () => void saver.db.close(),
  };
});
