import { styleText } from "node:util";
import { type Figure, isReached } from "./figure.ts";

export function printJson({ name, value, unit, how }: Figure): void {
  console.log(JSON.stringify({ name, value: rounded(value), unit, how }));
}

/** @param width of the longest name among those printed together */
export function printLine(figure: Figure, width: number): void {
  const { name, value, unit, how, target } = figure;
  const bound = !target ? "" : "atLeast" in target ? `≥ ${target.atLeast}` : `≤ ${target.atMost}`;
  const mark = !target ? " " : isReached(figure) ? styleText("green", "✓") : styleText("red", "✗");
  console.log(
    `${mark} ${name.padEnd(width)} ${String(rounded(value)).padStart(9)} ${unit.padEnd(12)} ${bound.padEnd(9)} ${styleText("dim", how)}`,
  );
}

/** Three digits that mean something. */
export function rounded(value: number): number {
  return Math.abs(value) >= 1_000 ? Math.round(value) : Number(value.toPrecision(3));
}

/** Columns as wide as their widest cell; the first reads from the left, the others are numbers. */
export function printTable(rows: readonly (readonly string[])[]): void {
  const widths = (rows[0] ?? []).map((_, i) => Math.max(...rows.map((row) => row[i]?.length ?? 0)));
  for (const row of rows) {
    console.log(row.map((cell, i) => (i === 0 ? cell.padEnd(widths[i] as number) : cell.padStart(widths[i] as number))).join("   "));
  }
}
