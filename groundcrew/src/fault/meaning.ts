/** What the statuses, codes, types and sentences of providers mean: the tables that `classify.ts` decides by. */
import type { Failure, FailureReason } from "../failure.ts";
import type { Facts } from "./facts.ts";

type Found = Pick<Failure, "chance" | "reason">;

const again = (reason: FailureReason): Found => ({ chance: "again", reason });
const never = (reason: FailureReason): Found => ({ chance: "never", reason });

const STATUSES: Readonly<Record<number, Found>> = {
  401: never("auth"),
  402: never("quota"),
  403: never("forbidden"),
  404: never("not_found"),
  407: never("auth"),
  408: again("timeout"),
  410: never("not_found"),
  413: never("context_length"),
  425: again("server_error"),
  429: again("rate_limited"),
  498: again("overloaded"), // Groq: no room in the flexible tier
  499: again("network"), // a proxy on the way takes us for gone
  501: never("invalid_request"),
  503: again("overloaded"),
  504: again("timeout"),
  522: again("network"), // Cloudflare, like the next
  524: again("timeout"),
  529: again("overloaded"),
};

/** A conflict (409) is final here: in a tool it means that the state says no. Providers that mean "in a moment" say so besides. */
export function meaningOf(status: number): Found {
  return STATUSES[status] ?? (status >= 500 ? again("server_error") : never("invalid_request"));
}

/** Types and codes of OpenAI, Anthropic, Google, AWS and the AI gateway, and the status each stands for. Lower case. */
const KINDS: ReadonlyMap<string, number> = new Map(
  Object.entries({
    400: "invalid_request_error invalid_argument failed_precondition validationexception bad_request",
    401: "authentication_error invalid_api_key unauthenticated unrecognizedclientexception expiredtokenexception",
    402: "billing_error servicequotaexceededexception",
    403: "permission_error permission_denied accessdeniedexception",
    404: "not_found_error model_not_found not_found resourcenotfoundexception",
    413: "request_too_large",
    429: "rate_limit_error rate_limit_exceeded resource_exhausted throttlingexception toomanyrequestsexception too_many_requests",
    500: "server_error api_error internal internal_error internal_server_error internalserverexception modelstreamerrorexception",
    503: "overloaded_error overloaded unavailable service_unavailable serviceunavailableexception modelnotreadyexception engine_overloaded",
    504: "timeout timeout_error deadline_exceeded modeltimeoutexception request-timeout body-timeout",
  }).flatMap(([status, kinds]) => kinds.split(" ").map((kind) => [kind, Number(status)])),
);

/**
 * The status that counts. AWS answers 400 for everything and names the matter; an error inside a stream comes after a 200; there
 * the kind says more. Everywhere else the status does.
 */
export function statusOfKinds({ status, kinds }: Facts): number | undefined {
  if (status !== undefined && status > 400) return status;
  return kinds.map((kind) => KINDS.get(kind.toLowerCase())).find((known) => known !== undefined) ?? status;
}

const QUOTA = anyOf([
  /insufficient[_ ](quota|balance|funds|credit)/,
  /billing_(hard_limit|not_active)/,
  /credit balance is too low/,
  /exceeded your current quota/,
  /reached your specified api usage limits/,
  /monthly spend(ing)? limit/,
  /used all available credits/,
]);

const CONTEXT_LENGTH = anyOf([
  /context_length_exceeded|exceed_context_size|prompt_too_long/,
  /maximum (context|prompt) length/,
  /(prompt|input|request|conversation) (is|was) too (long|large)/,
  /request[ _]too[ _]large/, // of OpenAI also with 429: larger than a whole minute's tokens
  /too many input tokens|too many tokens: /, // without the colon it is a throttle of AWS
  /input (token count|length).{0,80}exceed/,
  /exceed.{0,40}(context (window|length|limit|size)|token limit)/,
  /context (window|length|limit|size).{0,40}exceed/,
  /reduce the length of/,
]);

const REFUSED = anyOf([
  /content[_ -](filter|policy)/,
  /policy[_ ]violation|usage (policy|policies|guidelines)|responsibleai/,
  /requires moderation|moderation_blocked|(prompt|input|content) was flagged/,
  /prohibited_content|blocked.{0,40}safety/,
  /data_?inspection_?failed|content exists risk/,
]);

/** Google calls both a spent account and a busy minute RESOURCE_EXHAUSTED, in the words that OpenAI has for the first. */
function isQuota(text: string): boolean {
  if (text.includes("resource_exhausted")) return /per_?day|prepayment|credits are depleted/.test(text);
  return QUOTA.test(text);
}

/** What decides whatever the status is: providers answer 400, 402, 403 and 429 to the same thing. */
export function conclusive({ text, kinds }: Facts, status: number): Found | undefined {
  const said = status < 500 ? text : kinds.join("\n").toLowerCase(); // a server in trouble may quote anything
  if (isQuota(said)) return never("quota");
  if (CONTEXT_LENGTH.test(said)) return never("context_length");
  if (REFUSED.test(said)) return never("refused");
  if (status === 403 && /rate ?limit/.test(said)) return again("rate_limited"); // GitHub, Google
  if (status === 500 && said.includes("overloaded")) return again("overloaded");
  return undefined;
}

/** Codes of Node's sockets, resolver, TLS, HTTP parser and `fetch`. */
export const NETWORK_CODE = anyOf([
  /^ECONN(REFUSED|RESET|ABORTED)$/,
  /^E(PIPE|PROTO|TIMEDOUT|SOCKETTIMEDOUT|HOSTUNREACH|HOSTDOWN|NETUNREACH|NETDOWN|NETRESET|ADDRNOTAVAIL|NOTFOUND)$/,
  /^EAI_/,
  /^UND_ERR_(SOCKET|CLOSED|DESTROYED|CONNECT_TIMEOUT|HEADERS_TIMEOUT|BODY_TIMEOUT)$/,
  /^HPE_/,
  /^ERR_(HTTP2|SSL|TLS|STREAM_PREMATURE_CLOSE)/,
  /^(CERT|DEPTH_ZERO|SELF_SIGNED|UNABLE_TO_GET|UNABLE_TO_VERIFY)_/,
]);

function anyOf(patterns: readonly RegExp[]): RegExp {
  return new RegExp(patterns.map(({ source }) => source).join("|"));
}

interface Named extends Found {
  /** Whatever its cause is. Otherwise the cause may know better. */
  isDefinite: boolean;
}

/**
 * Errors of the AI SDK by name, which stays the same when two versions of it are installed. An answer that came whole and is not
 * what was asked for (another form, another tool) is the model's doing and no sign of trouble: the caller's to deal with.
 */
export const SDK_ERRORS: ReadonlyMap<string, Named> = new Map([
  ...named("DecisionRefusal ExtractionRefusal", never("refused"), true),
  ...named("LoadAPIKey LoadSetting", never("auth"), true),
  ...named("NoSuchModel NoSuchProvider NoSuchProviderReference", never("not_found"), true),
  ...named("NoObjectGenerated ToolChoiceViolation InvalidToolInput NoSuchTool ToolCallRepair Serialization", never("error"), true),
  ...named("InvalidArgument InvalidPrompt InvalidDataContent InvalidMessageRole MessageConversion", never("invalid_request"), true),
  ...named("UnsupportedFunctionality UnsupportedModelVersion MissingToolResults", never("invalid_request"), true),
  ...named("TooManyEmbeddingValuesForCall InvalidToolApproval InvalidToolApprovalSignature", never("invalid_request"), true),
  ...named("ToolCallNotFoundForApproval DecisionUnsupportedQuestionType ExtractionUnsupportedFieldType", never("invalid_request"), true),
  ...named("EmptyResponseBody InvalidResponseData JSONParse TypeValidation InvalidStreamPart", again("bad_response"), false),
  ...named("NoContentGenerated NoOutputGenerated NoImageGenerated NoSpeechGenerated", again("bad_response"), false),
  ...named("NoTranscriptGenerated NoTranslationGenerated NoVideoGenerated UIMessageStream", again("bad_response"), false),
]);

function named(names: string, found: Found, isDefinite: boolean): [string, Named][] {
  return names.split(" ").map((name) => [`AI_${name}Error`, { ...found, isDefinite }]);
}
