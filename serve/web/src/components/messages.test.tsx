import { afterEach, expect, test } from "vitest";

import { ApiError } from "../api/client";
import { clockHundredths } from "../case/edit/times";
import { clockTenths, speak } from "../words";
import { because, told } from "./messages";

const refusal = (status: number, code: string, values: Record<string, unknown> = {}) =>
  new ApiError(status, "the server's own text", { detail: "the server's own text", code, values });

afterEach(() => speak("en"));

test("a refusal that the page knows is told in the page's language, with its numbers", () => {
  const error = refusal(422, "comment-length", { most: 2000 });
  expect(told(error)).toBe("A comment has 1 to 2000 characters. Make it shorter.");
  speak("de");
  expect(told(error)).toBe("Ein Kommentar hat 1 bis 2000 Zeichen. Kürzen Sie ihn.");
});

test("a refusal of a code stands before the sentence of its status", () => {
  expect(told(refusal(403, "comment-not-yours"))).toContain("by who wrote it");
  expect(told(refusal(403, ""))).toContain("You may not do this");
});

test.each(["from-a-newer-service", "constructor", "toString", "__proto__"])("of the unknown code %s the server's text is told", (code) => {
  expect(told(refusal(422, code))).toBe("The server's own text.");
});

test("why a job failed is told in the page's language, and of an older job as the service said it", () => {
  const lost = { reason: "its worker was lost 5 times", cause: { code: "worker-lost", values: { attempts: 5 } } };
  expect(because(lost)).toMatch(/^the service was interrupted 5 times/);
  speak("de");
  expect(because(lost)).toMatch(/^Der Dienst wurde dabei 5-mal unterbrochen/);
  expect(because({ reason: lost.reason })).toBe(lost.reason);
  expect(because({ reason: lost.reason, cause: { code: "from-a-newer-service", values: {} } })).toBe(lost.reason);
  expect(because({ reason: null, cause: null })).toBe("ohne Angabe eines Grundes");
});

test("tenths and hundredths of seconds are written as the language writes them", () => {
  expect([clockTenths(15), clockHundredths(15.25)]).toEqual(["0:15.0", "0:15.25"]);
  speak("de");
  expect([clockTenths(15), clockHundredths(15.25)]).toEqual(["0:15,0", "0:15,25"]);
});
