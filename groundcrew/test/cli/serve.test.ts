/** `serve` with the options of the config file: who may ask. */
import { writeFileSync } from "node:fs";
import { afterEach, beforeEach, expect, test } from "vitest";
import { project } from "./command.ts";

const api = (name: string) => JSON.stringify(new URL(`../../src/${name}`, import.meta.url).href);
const ANA = "anas-key-0123456789";
const config = (server: string) => `
import { flow } from ${api("agent.ts")};
import { groundcrew } from ${api("runtime.ts")};
const hello = flow("hello", async () => "Hi");
export const server = ${server};
export default groundcrew({ agents: [hello], people: { ana: { roles: ["operator"] } } });
`;

let crew: ReturnType<typeof project>;

beforeEach(() => {
  crew = project();
});
afterEach(() => crew.remove());

async function serving(server: string, env: Record<string, string> = {}): Promise<string> {
  writeFileSync(`${crew.directory}/groundcrew.config.ts`, config(server));
  const running = crew.start(["serve", "--port", "0", "--json"], env);
  return JSON.parse((await running.until(/\{"type":"ready".*\}\n/))[0]).url;
}

test("its keys are taken, beside those of the environment, and the command line comes before it", async () => {
  const url = await serving(`{ port: 1, apiKeys: [{ key: "${ANA}", user: "ana", person: true }] }`, {
    GROUNDCREW_API_KEY: "a-services-key-0123",
  });
  const audit = (key?: string) => fetch(`${url}/v1/audit`, { headers: key === undefined ? {} : { authorization: `Bearer ${key}` } });
  expect((await audit()).status).toBe(401);
  expect((await audit(ANA)).status).toBe(200);
  expect((await audit("a-services-key-0123")).status).toBe(200);
});

test("its hook says who the application's users are", async () => {
  const url = await serving(
    `{ authenticate: (request) => request.headers.get("x-user") && { tenant: "default", user: request.headers.get("x-user"), roles: [] } }`,
  );
  expect((await fetch(`${url}/v1/runs`)).status).toBe(401);
  expect((await fetch(`${url}/v1/runs`, { headers: { "x-user": "zoe" } })).status).toBe(200);
  expect((await fetch(`${url}/v1/audit`, { headers: { "x-user": "zoe" } })).status).toBe(403);
});

test.each(['{ apiKey: "a-key-of-16-characters" }', '"keys"', "{ apiKeys: [{ key: 'short' }] }"])(
  "what is misspelt or wrong in it is told before anything listens: %s",
  async (server) => {
    writeFileSync(`${crew.directory}/groundcrew.config.ts`, config(server));
    expect(await crew.groundcrew("serve", "--port", "0")).toMatchObject({
      code: 2,
      err: expect.stringContaining("error CONFIG_INVALID: "),
    });
  },
);
