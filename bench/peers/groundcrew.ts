import { contend } from "../contender.ts";
import { crewOn } from "./crew.ts";

await contend(({ url }) =>
  crewOn(url, "defaults; one process that starts the runs and works on them; every step is committed before the next"),
);
