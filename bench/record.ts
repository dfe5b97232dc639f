/** The values that steps return: records of about a kilobyte, the same for Groundcrew and for whatever it is held against. */

export const STEPS = 10;
export const VALUE_BYTES = 1024;

/** Its JSON text has exactly `VALUE_BYTES` bytes: the head of a record, and a text as a page or a model would give. */
export function record(n: number): Record<string, unknown> {
  const value = { id: `order-${n}`, total: 149.9, currency: "EUR", paid: true, lines: [{ sku: "A-1", quantity: 2 }], note: "" };
  value.note = TEXT.slice(0, VALUE_BYTES - JSON.stringify(value).length);
  return value;
}

const TEXT = "The parcel left the warehouse on Monday, and was handed to the carrier the same evening. ".repeat(12);

/** Made beforehand: making them is not what is measured. */
export const VALUES = Array.from({ length: STEPS }, (_, i) => record(i));

export const STEP_NAMES = Array.from({ length: STEPS }, (_, i) => `fetch ${i}`);
