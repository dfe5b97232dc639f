import { expect, test } from "vitest";
import { Places } from "../../src/tool/places.ts";

const tick = () => new Promise((resolve) => setImmediate(resolve));

/** One that wants a place, and whether it has one. */
function visitor(places: Places, signal?: AbortSignal) {
  const visit = { has: false, why: undefined as unknown, leave: () => {} };
  places.enter(signal).then(
    (leave) => Object.assign(visit, { has: true, leave }),
    (why) => Object.assign(visit, { why }),
  );
  return visit;
}

test("no more come in than there is room for, and those who wait do so in order", async () => {
  const places = new Places(2);
  const [first, , third, fourth] = [visitor(places), visitor(places), visitor(places), visitor(places)];
  await tick();
  expect([third?.has, fourth?.has]).toEqual([false, false]);
  first?.leave();
  first?.leave(); // gives back one place, not two
  await tick();
  expect([third?.has, fourth?.has]).toEqual([true, false]);
});

test("one that leaves the line says why, takes no place, and does not stand in the way of those behind it", async () => {
  const places = new Places(1);
  const stop = new AbortController();
  const [inside, impatient, patient] = [visitor(places), visitor(places, stop.signal), visitor(places)];
  await tick();
  stop.abort("over");
  await tick();
  expect(impatient).toMatchObject({ has: false, why: "over" });
  inside?.leave();
  await tick();
  expect(patient?.has).toBe(true);
  patient?.leave();
  const late = visitor(places, stop.signal);
  const next = visitor(places);
  await tick();
  expect([late.why, next.has]).toEqual(["over", true]);
});

test("a signal that fires behind one that is in changes nothing", async () => {
  const places = new Places(1);
  const stop = new AbortController();
  const first = visitor(places);
  const second = visitor(places, stop.signal);
  await tick();
  first.leave();
  await tick();
  stop.abort("over");
  await tick();
  expect(second).toMatchObject({ has: true, why: undefined });
});
