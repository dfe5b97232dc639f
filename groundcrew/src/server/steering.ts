/**
 * | method | path | who | |
 * |---|---|---|---|
 * | POST | /runs/{id}/pause | operator | hold it: no step begins |
 * | POST | /runs/{id}/resume | operator | let it go on |
 * | POST | /runs/{id}/say | operator | guidance that the agent reads at its next step |
 * | POST | /runs/{id}/raise | operator | more model steps |
 * | POST | /runs/{id}/takeover | operator, a person | speak to the user in the agent's place |
 * | POST | /runs/{id}/speak | operator, a person | say something to the user |
 * | POST | /runs/{id}/handback | operator, a person | the agent goes on |
 * | GET | /stops | operator of the default tenant | what is stopped |
 * | POST | /stops | operator of the default tenant | stop an agent, or everything |
 * | POST | /stops/lift | operator of the default tenant | let it go on |
 */
import { OpenAPIHono } from "@hono/zod-openapi";
import { z } from "zod";
import { GroundcrewError } from "../errors.ts";
import { type Actor, localPrincipal } from "../principal.ts";
import type { Crew, Run } from "../runtime.ts";
import { runRef } from "../wire.ts";
import {
  liftedView,
  liftRequest,
  nothingRequest,
  pauseRequest,
  raiseRequest,
  sayRequest,
  stoppedView,
  stopRequest,
  stopsView,
} from "../wire-approvals.ts";
import type { ServerEnv } from "./authenticate.ts";
import { endpoint } from "./endpoint.ts";
import type { Guard } from "./guard.ts";

const params = z.object({ id: z.string() });

export function steeringRoutes(crew: Crew, guard: Guard): OpenAPIHono<ServerEnv> {
  const app = new OpenAPIHono<ServerEnv>();
  const command = <B extends z.ZodObject>(
    name: string,
    summary: string,
    body: B,
    act: (run: Run, body: z.output<B>, actor: Actor) => Promise<void>,
  ) => {
    const shape = { method: "post", path: `/runs/{id}/${name}`, summary, params, body, status: 202, reply: runRef } as const;
    endpoint(app, shape, async ({ c, params, body, actor }) => {
      const { run } = await guard.run(c, params.id);
      guard.requireOperator(c);
      await act(run, body as z.output<B>, actor);
      return { id: run.id };
    });
  };
  command("pause", "Hold it", pauseRequest, (run, { why }, actor) => run.pause(why, actor));
  command("resume", "Let it go on", nothingRequest, (run, _body, actor) => run.resume(actor));
  command("say", "Say something to the agent", sayRequest, (run, { text }, actor) => run.say(text, actor));
  command("raise", "Give it more steps", raiseRequest, (run, { steps }, actor) => run.raise({ steps }, actor));
  command("takeover", "Speak in the agent's place", nothingRequest, (run, _body, actor) => run.takeOver(person(actor)));
  command("speak", "Say something to the user", sayRequest, (run, { text }, actor) => run.speak(text, person(actor)));
  command("handback", "Let the agent go on", nothingRequest, (run, _body, actor) => run.handBack(person(actor)));
  stopRoutes(app, crew, guard);
  return app;
}

/** The user is told that a person has joined. */
function person(actor: Actor): Actor {
  if (actor.kind === "person") return actor;
  throw new GroundcrewError("FORBIDDEN", `"${actor.user}" is a key, not a person: only a person can speak in an agent's place.`);
}

function stopRoutes(app: OpenAPIHono<ServerEnv>, crew: Crew, guard: Guard): void {
  endpoint(app, { method: "get", path: "/stops", summary: "What is stopped", reply: stopsView }, async ({ c, principal }) => {
    guard.requireOperator(c);
    if (principal.tenant !== localPrincipal.tenant) throw new GroundcrewError("FORBIDDEN", "Stops are for those who run the service.");
    return { stops: await crew.stops() };
  });
  const stop = { method: "post", path: "/stops", summary: "Stop an agent, or everything", body: stopRequest, reply: stoppedView } as const;
  endpoint(app, stop, ({ c, body, actor }) => {
    guard.requireOperator(c);
    return crew.stop(body, actor);
  });
  const lift = { method: "post", path: "/stops/lift", summary: "Let it go on", body: liftRequest, reply: liftedView } as const;
  endpoint(app, lift, async ({ c, body, actor }) => {
    guard.requireOperator(c);
    return { lifted: await crew.lift(body.agent, actor) };
  });
}
