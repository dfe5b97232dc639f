import { join } from "node:path";
import { contend } from "../contender.ts";
import { crewOn } from "./crew.ts";

await contend(({ folder }) => crewOn(join(folder, "crew.db"), "defaults; WAL and synchronous=FULL"));
