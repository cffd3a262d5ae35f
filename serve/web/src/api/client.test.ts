import { expect, test, vi } from "vitest";

import { refused, serve } from "../testing/service";
import { ApiError, api, onExpired, useToken } from "./client";

test("a change carries the token of the session, and a look does not", async () => {
  const asked = serve({ "GET v1/x": { n: 1 }, "POST v1/x": { n: 2 } });
  useToken("t");
  await api("v1/x");
  await api("v1/x", { method: "POST", json: { a: 1 } });
  expect(asked[0]?.headers).toEqual({});
  expect(asked[1]?.headers).toEqual({ "content-type": "application/json", "x-csrf-token": "t" });
  expect(asked[1]?.body).toEqual({ a: 1 });
});

test("an answer without content is null", async () => {
  serve({ "DELETE v1/x": null });
  expect(await api("v1/x", { method: "DELETE" })).toBeNull();
});

test("a refusal has the status and the words of the service", async () => {
  serve({ "GET v1/x": refused(409, "the case is under a legal hold") });
  const error = await api("v1/x").catch((found: unknown) => found);
  expect(error).toBeInstanceOf(ApiError);
  expect(error).toMatchObject({ status: 409, message: "the case is under a legal hold", mayPass: false });
});

test("no answer at all may pass", async () => {
  vi.stubGlobal("fetch", () => Promise.reject(new TypeError("no network")));
  const error = await api("v1/x").catch((found: unknown) => found);
  expect(error).toMatchObject({ status: 0, mayPass: true });
});

test("a session that the service no longer knows is told once, and never because of an older session", async () => {
  let late: (response: Response) => void = () => {};
  serve({
    "GET v1/now": refused(401, "sign in"),
    "GET v1/late": () => new Promise((done) => (late = done)),
  });
  const told = vi.fn();
  const forget = onExpired(told);
  useToken("old");
  const pending = api("v1/late").catch(() => {});
  useToken("new");
  late(refused(401, "sign in"));
  await pending;
  expect(told).not.toHaveBeenCalled();
  await api("v1/now").catch(() => {});
  expect(told).toHaveBeenCalledTimes(1);
  forget();
});
