/** A process of its own that brings out what is to be told, until it is killed: <file> <url> <secret>. */
import { systemClock } from "../../src/clock.ts";
import { webhook } from "../../src/notify/webhook.ts";
import { Courier } from "../../src/run/courier.ts";
import { openSqlite } from "../../src/sqlite/open.ts";
import { People } from "../../src/supervision/people.ts";

const [, , file = "", url = "", secret = ""] = process.argv;
const store = await openSqlite(file);
const channels = [webhook({ url, secret, name: "hook" })];
const onTrouble = (error: unknown) => console.error(error);
new Courier({
  store,
  clock: systemClock,
  channels,
  people: new People(),
  url: undefined,
  secret: undefined,
  onTrouble,
  random: Math.random,
}).start();
setInterval(() => {}, 60_000);
