/** What approvals mean, for every store. Part of the conformance suite. */
import { describe, expect, test } from "vitest";
import { MAX_INBOX } from "../../src/limits.ts";
import type { ApprovalRow } from "../../src/persistence/approval.ts";
import type { Ground } from "./conformance.ts";
import { entryOf, Hands, LEASE, LONE, NASTY, news, unwritable } from "./people-hands.ts";

const PARKED = { to: "parked", reason: "approval", dueAt: null } as const;

export function peopleClaims(makeGround: () => Promise<Ground>): void {
  const hands = new Hands(makeGround);

  describe("what a run asks", () => {
    test("is there with its event, its record and its news, field by field, for every process", async () => {
      const { store, other } = hands;
      const claim = await hands.held();
      const row = hands.row(claim);
      const aside = { opens: [row], audit: [entryOf("approval.requested")], deliveries: [news("slack/1", { approvals: [row.id] })] };
      await store.append(hands.write(claim, aside));
      expect(await other.approval(row.id)).toEqual(row);
      expect(await other.approvals({ run: claim.run.id, limit: 10 })).toEqual([row]);
      expect(await hands.actions()).toEqual(["approval.requested"]);
      expect(await other.takeDeliveries(10, LEASE)).toMatchObject([{ id: "slack/1", approvals: [row.id], failures: 0 }]);
      for (const id of [`${claim.run.id}.2`, "nonsense", "", NASTY]) expect(await other.approval(id)).toBeNull();
    });

    test("comes back as it went in, whatever its texts are made of", async () => {
      const { store, other } = hands;
      const claim = await hands.held();
      const plain = hands.row(claim);
      const texts = { name: NASTY, step: LONE, user: NASTY, why: LONE, hash: NASTY, tool: LONE, rules: NASTY, session: LONE };
      const request = { ...plain.request, ...texts, input: { [NASTY]: [LONE, { [LONE]: NASTY }] }, context: [LONE, NASTY, ""] };
      const row: ApprovalRow = { ...plain, request, to: [`user:${LONE}`, `role:${NASTY}`] };
      await store.append(hands.write(claim, { opens: [row] }));
      expect(await other.approval(row.id)).toEqual(row);

      const vote = { by: LONE, roles: [NASTY], hash: NASTY, at: 1, channel: "link" as const, reason: LONE, link: NASTY };
      const verdict = {
        outcome: "approved" as const,
        by: [LONE],
        at: 1,
        channel: "link" as const,
        hash: LONE,
        reason: NASTY,
        input: [LONE],
      };
      const next = { ...row, status: "approved" as const, version: 2, to: [LONE], votes: [vote], verdict };
      const { won } = await other.amend({ next, signal: { id: "s", value: { [LONE]: NASTY } }, audit: [], deliveries: [] });
      expect(won).toBe(true);
      expect(await store.approval(row.id)).toEqual(next);
      expect(await store.inbox(claim.worker)).toMatchObject([{ kind: "approval", name: row.id, value: { [LONE]: NASTY } }]);
    });

    test("is nowhere when its worker has lost the run", async () => {
      const { store } = hands;
      const claim = await hands.held();
      await store.leave(claim.worker);
      const late = hands.write(claim, {
        opens: [hands.row(claim)],
        audit: [entryOf("approval.requested")],
        deliveries: [news("slack/1")],
      });
      await expect(store.append(late)).rejects.toMatchObject({ code: "SUPERSEDED" });
      await hands.nothingOf(claim);
    });

    test("is nowhere when a message to the run came first: it has not ended, and has closed nothing", async () => {
      const { store } = hands;
      const claim = await hands.held();
      const row = hands.row(claim);
      await store.append(hands.write(claim, { opens: [row] }));
      await store.signal({ id: "m", run: claim.run.id, kind: "message", name: "m", value: "wait" });
      const aside = { closes: [row.id], audit: [entryOf("approval.cancelled")], deliveries: [news("slack/1")] };
      expect(await store.append(hands.write(claim, aside, { events: [], next: { to: "succeeded" } }))).toBe("signalled");
      expect(await store.approval(row.id)).toEqual(row);
      expect(await hands.actions()).toEqual([]);
      expect(await store.nextDelivery()).toBeNull();
    });

    test("is nowhere when something of it cannot be written; what others wrote in the same moment is there", async () => {
      const { store } = hands;
      const [claim, neighbour] = [await hands.held(), await hands.held()];
      const [row, fine] = [hands.row(claim), hands.row(neighbour)];
      const aside = { opens: [row], deliveries: [news("slack/1", { approvals: [row.id] })], audit: [entryOf("approval.requested")] };
      const broken = { ...aside, audit: [...aside.audit, unwritable] };
      const [failed, written] = await Promise.allSettled([
        store.append(hands.write(claim, broken, { next: PARKED })),
        store.append(hands.write(neighbour, { opens: [fine] })),
      ]);
      expect(failed).toMatchObject({ status: "rejected", reason: { code: "INTERNAL" } });
      expect(written).toMatchObject({ status: "fulfilled", value: "written" });
      expect(await store.last(claim.run.id)).toMatchObject({ seq: 1 });
      expect((await store.run(claim.run.id))?.status).toBe("running");
      expect((await store.approvals({ limit: 10 })).map(({ id }) => id)).toEqual([fine.id]);
      expect(await hands.actions()).toEqual([]);
      expect(await store.nextDelivery()).toBeNull();
      await store.append(hands.write(claim, aside)); // and it can be written as it should have been
      expect(await store.approval(row.id)).toEqual(row);
    });

    test("is asked once: the same id a second time is refused whole", async () => {
      const { store } = hands;
      const claim = await hands.held();
      const row = hands.row(claim);
      await store.append(hands.write(claim, { opens: [row] }));
      const event = { type: "run.released", why: "again", seq: 3, at: 0 } as const;
      const again = hands.write(claim, { opens: [{ ...row, to: ["user:mallory"] }], audit: [entryOf("x")] }, { events: [event] });
      await expect(store.append(again)).rejects.toMatchObject({ code: "INTERNAL" });
      expect(await store.approval(row.id)).toEqual(row);
      expect(await store.last(claim.run.id)).toMatchObject({ seq: 2 });
      expect(await hands.actions()).toEqual([]);
    });

    test("is its own: a write that opens or closes another run's approval is refused before anything of it is written", async () => {
      const { store } = hands;
      const { row } = await hands.asked();
      const thief = await hands.held();
      const opens = [{ ...hands.row(thief), run: row.run }];
      await expect(store.append(hands.write(thief, { closes: [row.id] }))).rejects.toMatchObject({ code: "INTERNAL" });
      await expect(store.append(hands.write(thief, { opens: [{ ...row, id: `${row.run}.2` }] }))).rejects.toMatchObject({
        code: "INTERNAL",
      });
      await expect(store.append(hands.write(thief, { opens }))).rejects.toMatchObject({ code: "INTERNAL" });
      await expect(store.append(hands.write(thief, { closes: ["nonsense"] }))).rejects.toMatchObject({ code: "APPROVAL_NOT_FOUND" });
      expect(await store.last(thief.run.id)).toMatchObject({ seq: 1 });
      expect(await store.approvals({ limit: 10 })).toEqual([row]);
    });

    test("is closed when the run ends, if nobody has decided: cancelled by nobody, of the arguments it was about", async () => {
      const { store } = hands;
      const claim = await hands.held();
      const [one, two] = [hands.row(claim, 1), hands.row(claim, 2)];
      await store.append(hands.write(claim, { opens: [one, two] }));
      const { row: decided } = await store.amend(hands.approve(one, "ana"));
      const consumed = (await store.inbox(claim.worker)).map(({ id }) => id);
      const end = { events: [], consumed, next: { to: "succeeded" } } as const;
      await store.append(hands.write(claim, { closes: [one.id, two.id, `${claim.run.id}.3`] }, end));
      expect(await store.approval(one.id)).toEqual(decided);
      const verdict = { outcome: "cancelled", by: [], channel: "runtime", hash: "h", at: hands.clock.now() };
      expect(await store.approval(two.id)).toMatchObject({ status: "cancelled", version: 2, verdict });
    });
  });

  describe("a decision", () => {
    test("its record, its news and the run's signal are one: the parked run is due by it", async () => {
      const { store, other } = hands;
      const { claim, row } = await hands.asked();
      const { won, row: now } = await other.amend(
        hands.approve(row, "ana", { deliveries: [news("slack/ended", { approvals: [row.id] })] }),
      );
      expect(won).toBe(true);
      expect(now).toMatchObject({ status: "approved", version: 2, verdict: { by: ["ana"] } });
      expect(await store.approval(row.id)).toEqual(now);
      const [again] = await store.claim(claim.worker, [claim.run.agent], 1);
      expect(again?.signals).toMatchObject([{ id: `approval:${row.id}:ended`, kind: "approval", name: row.id }]);
      expect(await hands.actions()).toEqual(["approval.approved"]);
      expect(await store.takeDeliveries(10, LEASE)).toHaveLength(1);
    });

    test("is nowhere when its record cannot be written: nothing is approved without one", async () => {
      const { store } = hands;
      const { claim, row } = await hands.asked();
      const broken = hands.approve(row, "ana", { audit: [entryOf("approval.approved"), unwritable], deliveries: [news("slack/ended")] });
      await expect(store.amend(broken)).rejects.toMatchObject({ code: "INTERNAL" });
      expect(await store.approval(row.id)).toEqual(row);
      expect((await store.run(claim.run.id))?.status).toBe("parked");
      expect(await store.claim(claim.worker, [claim.run.agent], 1)).toEqual([]);
      expect(await hands.actions()).toEqual([]);
      expect(await store.nextDelivery()).toBeNull();
      expect((await store.amend(hands.approve(row, "ana"))).won).toBe(true);
    });

    test("is nowhere when its signal or its news has a name that no store can hold", async () => {
      const { store } = hands;
      const { row } = await hands.asked();
      await expect(store.amend(hands.approve(row, "ana", { signal: { id: LONE, value: 1 } }))).rejects.toMatchObject({
        code: "INPUT_INVALID",
      });
      const nameless = [news("slack/1", { approvals: ["nonsense"] })];
      await expect(store.amend(hands.approve(row, "ana", { deliveries: nameless }))).rejects.toMatchObject({ code: "APPROVAL_NOT_FOUND" });
      expect(await store.approval(row.id)).toEqual(row);
      expect(await hands.actions()).toEqual([]);
    });

    test("of 200 in the same instant, from two processes, is one; the others are told which, and leave no trace", async () => {
      const { store, other } = hands;
      const { claim, row } = await hands.asked();
      const all = await Promise.all(
        Array.from({ length: 200 }, (_, n) =>
          (n % 2 ? store : other).amend(hands.approve(row, `person-${n}`, { deliveries: [news(`slack/${n}`)] })),
        ),
      );
      const winners = all.filter(({ won }) => won);
      expect(winners).toHaveLength(1);
      const by = winners[0]?.row.verdict?.by;
      for (const one of all) expect(one.row.verdict?.by).toEqual(by);
      expect((await store.audit("acme", 0, 10)).map(({ record }) => [JSON.parse(record).actor.id])).toEqual([by]);
      const [again] = await store.claim(claim.worker, [claim.run.agent], 1);
      expect(again?.signals).toHaveLength(1);
      expect(await store.takeDeliveries(500, LEASE)).toHaveLength(1);
    });

    test("of many people about many runs, while those runs end, leaves nobody waiting for another and every chain whole", async () => {
      const { store, other } = hands;
      const all = await Promise.all(Array.from({ length: 12 }, () => hands.held()));
      const rows = all.map((claim) => hands.row(claim));
      await Promise.all(all.map((claim, n) => store.append(hands.write(claim, { opens: [rows[n] as ApprovalRow] }))));
      const both = (n: number) => [
        entryOf(`${n}`, { tenant: n % 2 ? "acme" : "zeta" }),
        entryOf(`${n}`, { tenant: n % 2 ? "zeta" : "acme" }),
      ];
      const shared = [news("slack/b"), news("slack/a")];
      const ends = all.map((claim, n) =>
        store.append(
          hands.write(
            claim,
            { closes: [rows[n]?.id ?? ""], audit: both(n), deliveries: n % 2 ? shared : shared.toReversed() },
            { events: [], next: { to: "cancelled" } },
          ),
        ),
      );
      const decisions = rows.flatMap((row, n) => [
        other.amend(hands.approve(row, "ana", { audit: both(n + 1), deliveries: shared })),
        store.amend(hands.approve(row, "bo", { audit: both(n) })),
      ]);
      const decided = await Promise.all([...decisions, ...ends]).then(([...results]) => results.slice(0, decisions.length));
      for (const [n, row] of rows.entries()) {
        const { status } = (await store.approval(row.id)) as ApprovalRow;
        const won = decided.slice(2 * n, 2 * n + 2).filter((one) => typeof one === "object" && one.won);
        expect(won).toHaveLength(status === "approved" ? 1 : 0);
      }
      await hands.wholeChain("acme");
      await hands.wholeChain("zeta");
      expect(await store.takeDeliveries(10, LEASE)).toHaveLength(2);
    });

    test("never changes, and neither does what is not the next version", async () => {
      const { store } = hands;
      const { row } = await hands.asked();
      for (const version of [0, 2, 7]) expect(await store.amend(hands.approve({ ...row, version }, "zoe"))).toEqual({ won: false, row });
      const { row: ended } = await store.amend(hands.approve(row, "ana"));
      const reopened = { next: { ...ended, status: "open", version: 3, verdict: null } as const, audit: [], deliveries: [] };
      expect(await store.amend(hands.approve(ended, "bo"))).toEqual({ won: false, row: ended });
      expect(await store.amend(reopened)).toEqual({ won: false, row: ended });
      expect(await hands.other.approval(row.id)).toEqual(ended);
      expect(await hands.actions()).toEqual(["approval.approved"]);
    });

    test("decides about what was asked: whatever it brings along, what is asked, when and by whom stays as it was", async () => {
      const { store, other } = hands;
      const { row } = await hands.asked();
      const next = {
        ...row,
        version: 2,
        run: "run_other00",
        tenant: "other",
        requestedAt: 1,
        request: { ...row.request, input: { amount: 1_000_000 }, hash: "another" },
        to: ["role:lead"],
      };
      const { won, row: now } = await store.amend({ next, audit: [], deliveries: [] });
      expect(won).toBe(true);
      expect(now).toEqual({ ...row, version: 2, to: ["role:lead"] });
      expect(await other.approval(row.id)).toEqual(now);
      expect(await other.approvals({ tenant: "acme", status: "open", limit: 10 })).toEqual([now]);
    });

    test("of a run that has ended is none: it is cancelled instead, on record, and stays so", async () => {
      const { store, other } = hands;
      const { claim, row } = await hands.asked();
      await store.signal({ id: "c", run: claim.run.id, kind: "cancel", name: "cancel", value: "enough" });
      const [again] = await store.claim(claim.worker, [claim.run.agent], 1);
      const end = { ...hands.write(claim, {}), epoch: again?.epoch ?? 0, events: [], consumed: ["c"], next: { to: "cancelled" } } as const;
      await store.append(end); // by a worker that knew nothing of what was asked
      const { won, row: now } = await other.amend(hands.approve(row, "ana", { deliveries: [news("slack/1")] }));
      expect(won).toBe(false);
      expect(now).toMatchObject({ status: "cancelled", version: 2, verdict: { outcome: "cancelled", by: [] } });
      expect(await store.amend(hands.approve(row, "bo"))).toEqual({ won: false, row: now });
      expect(await hands.actions()).toEqual(["approval.cancelled"]);
      expect(await store.nextDelivery()).toBeNull();
    });

    test("about what nobody has asked is refused", async () => {
      const { store } = hands;
      const { row } = await hands.asked();
      for (const id of [`${row.run}.7`, "run_nobody00.1", "nonsense", "", NASTY]) {
        await expect(store.amend(hands.approve({ ...row, id }, "ana"))).rejects.toMatchObject({ code: "APPROVAL_NOT_FOUND" });
      }
      expect(await hands.actions()).toEqual([]);
      expect(await store.approval(row.id)).toEqual(row);
    });

    test("meets no full inbox, while what somebody says does; a pause is none of what is bounded", async () => {
      const { store } = hands;
      const { claim, row } = await hands.asked();
      const say = (id: string, kind: "signal" | "handover" | "pause" | "resume" | "raise") =>
        store.signal({ id, run: claim.run.id, kind, name: kind });
      await Promise.all(Array.from({ length: MAX_INBOX }, (_, n) => say(`s${n}`, "signal")));
      for (const kind of ["signal", "handover"] as const) await expect(say("more", kind)).rejects.toMatchObject({ code: "INBOX_FULL" });
      for (const kind of ["pause", "resume", "raise"] as const) expect(await say(kind, kind)).toBe(true);
      expect((await store.amend(hands.approve(row, "ana"))).won).toBe(true);
    });
  });

  test("a pause, a resume and a pause again are three, in their order", async () => {
    const { store, other } = hands;
    const claim = await hands.held();
    const kinds = ["pause", "resume", "pause", "raise", "raise"] as const;
    for (const [n, kind] of kinds.entries()) await (n % 2 ? store : other).signal({ id: `${n}`, run: claim.run.id, kind, name: kind });
    expect((await store.inbox(claim.worker)).map(({ kind }) => kind)).toEqual(kinds);
  });

  test("lists are newest first, page by page, by tenant, run and status, and of nobody else", async () => {
    const { store } = hands;
    const rows: ApprovalRow[] = [];
    for (let n = 0; n < 5; n++) {
      const { row } = await hands.asked(1, n === 3 ? { tenant: "other" } : {});
      hands.clock.jump(n === 1 ? 0 : 10); // two in the same millisecond
      rows.unshift(row);
    }
    const ids = (some: readonly ApprovalRow[]) => some.map(({ id }) => id);
    rows.sort((a, b) => b.requestedAt - a.requestedAt || (a.id < b.id ? 1 : -1));
    const mine = ids(rows.filter(({ tenant }) => tenant === "acme"));
    expect(ids(await store.approvals({ limit: 10 }))).toEqual(ids(rows));
    expect(ids(await store.approvals({ status: "open", limit: 10 }))).toEqual(ids(rows));
    expect(ids(await store.approvals({ tenant: "acme", limit: 10 }))).toEqual(mine);
    for (const filter of [{}, { status: "open" }] as const) {
      const paged: string[] = [];
      for (let page = await store.approvals({ tenant: "acme", ...filter, limit: 2 }); page.length > 0; ) {
        paged.push(...ids(page));
        page = await store.approvals({ tenant: "acme", ...filter, limit: 2, before: paged.at(-1) ?? "" });
      }
      expect(paged).toEqual(mine);
    }
    const [last] = rows as [ApprovalRow];
    await store.amend(hands.approve(last, "ana"));
    expect(ids(await store.approvals({ tenant: "acme", status: "approved", limit: 10 }))).toEqual([last.id]);
    expect(ids(await store.approvals({ tenant: "acme", status: "open", limit: 10 }))).toEqual(mine.filter((id) => id !== last.id));
    expect(await store.approvals({ tenant: "nobody", limit: 10 })).toEqual([]);
    expect(await store.approvals({ tenant: "acme", status: "denied", limit: 10 })).toEqual([]);
    expect(await store.approvals({ run: last.run, tenant: "other", limit: 10 })).toEqual([]);
    for (const before of [`${last.run}.9`, "nonsense"]) {
      await expect(store.approvals({ before, limit: 10 })).rejects.toMatchObject({ code: "CURSOR_INVALID" });
    }
  });
}
