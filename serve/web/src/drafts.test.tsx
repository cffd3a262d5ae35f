import { cleanup, render, screen, waitFor } from "@testing-library/preact";
import userEvent from "@testing-library/user-event";
import { afterEach, beforeEach, expect, test, vi } from "vitest";

import type { Case } from "./api/cases";
import { api } from "./api/client";
import { About } from "./case/about";
import { Comments, useComments } from "./case/comments";
import { commentsOfCase, type FileSeen } from "./case/file-of-case";
import { Card } from "./library/card";
import { Describe } from "./library/describe";
import { session, signIn, signOut } from "./session";
import { found, ID, VIDEO } from "./testing/case";
import { signedIn } from "./testing/people";
import { silentPlayer } from "./testing/player";
import { type Answer, refused, serve } from "./testing/service";
import { speak } from "./words";

const PATH = `v1/videos/${ID}/comments`;
const SECOND = "5e".repeat(16);
const person = (user: string) => ({ user, name: user, role: "surgeon", tenant: "north", csrf: "t", sign_on: false, key_id: null, key_expires_s: null });
const answers = (more: Record<string, Answer> = {}) => serve({ [`GET ${PATH}`]: [], [`GET v1/videos/${SECOND}/comments`]: [], ...more });
const video = { ...VIDEO, rights: ["comment", "delete"], relations: ["owner"] };

function Shown() {
  return session.value?.user ? <Comments video={video} player={player} comments={useComments(ID)} /> : <p>Signed out</p>;
}
let player = silentPlayer();
const field = async () => (await screen.findByRole("textbox")) as HTMLTextAreaElement;
const begun = async (text = "Mrs Miller bled") => {
  render(<Shown />);
  player.timeS.value = 30;
  await userEvent.type(await field(), text);
};

afterEach(() => vi.unstubAllGlobals());
beforeEach(() => {
  sessionStorage.clear();
  player = silentPlayer();
  signedIn("eve");
  speak("en");
});

test("a half-written comment is there again, at its moment, when its author signs in after the session has ended", async () => {
  answers({ "GET v1/home": refused(401, ""), "POST v1/home": refused(401, ""), "POST session": person("eve") });
  await begun();
  await expect(api("v1/home", { method: "POST" })).rejects.toThrow();
  await screen.findByText("Signed out");
  cleanup(); // the browser may have gone to the hospital's sign-in and back
  await signIn("key");
  player.timeS.value = 0;
  render(<Shown />);
  await waitFor(async () => expect((await field()).value).toBe("Mrs Miller bled"));
  expect(screen.getByLabelText("Comment at 0:30.0")).toBeTruthy();
});

test("nobody else who signs in on the tab is shown it, nor finds it in the browser", async () => {
  answers({ "POST session": person("max") });
  await begun();
  cleanup();
  await signIn("key");
  expect(sessionStorage.length).toBe(0);
  render(<Shown />);
  expect((await field()).value).toBe("");
});

test("of two who are signed in without a sign-in between them, each sees only the own text", async () => {
  answers();
  await begun();
  cleanup();
  signedIn("max");
  render(<Shown />);
  expect((await field()).value).toBe("");
});

test("a comment that is sent, and a text that its author clears, is kept no more", async () => {
  answers({ [`POST ${PATH}`]: { comment_id: "c", at_s: 30, text: "", author_name: "Eve", mine: true, created_s: 1, looks_like: [] } });
  await begun("Look");
  expect(sessionStorage.length).toBe(1);
  await userEvent.clear(await field());
  expect(sessionStorage.length).toBe(0);
  await userEvent.type(await field(), "Look");
  await userEvent.click(screen.getByRole("button", { name: "Add the comment" }));
  await waitFor(() => expect(sessionStorage.length).toBe(0));
});

test("who signs out leaves no text behind, even where the service does not answer", async () => {
  answers({ "DELETE session": refused(503, "") });
  await begun();
  await expect(signOut()).rejects.toThrow();
  expect(sessionStorage.length).toBe(0);
});

test("what is typed while the service ends the session is left behind neither", async () => {
  let end = (_: null) => {};
  answers({ "DELETE session": () => new Promise((done) => (end = done)), "GET session": { ...person("eve"), user: null } });
  await begun();
  const leaving = signOut();
  await userEvent.type(await field(), " again");
  expect(sessionStorage.length).toBe(1);
  end(null);
  await leaving;
  expect(sessionStorage.length).toBe(0);
  expect(await screen.findByText("Signed out")).toBeTruthy();
});

test("a tab whose storage is closed keeps no drafts, and all else goes on", async () => {
  const closed = () => {
    throw new DOMException("closed", "SecurityError");
  };
  answers({ "DELETE session": null, "GET session": { ...person("eve"), user: null } });
  vi.stubGlobal("sessionStorage", new Proxy({}, { get: closed, ownKeys: closed }));
  await begun("Look");
  await userEvent.clear(await field());
  await signOut();
  expect(await screen.findByText("Signed out")).toBeTruthy();
});

test("the text goes with its case, and only that", async () => {
  answers({ [`DELETE v1/videos/${ID}`]: null });
  await begun();
  sessionStorage.setItem(`halsted draft ["north/eve","${SECOND}","comment"]`, '[{"written":"other","fileS":0}]');
  cleanup();
  render(<About video={video} reload={async () => {}} />);
  await userEvent.click(screen.getByRole("button", { name: "Delete this case" }));
  await userEvent.click(await screen.findByRole("button", { name: "Delete" }));
  await waitFor(() => expect(sessionStorage.length).toBe(1));
  expect(sessionStorage.key(0)).toContain(SECOND);
});

test("in a case of several files a text belongs to its file, wherever that begins by now", async () => {
  answers();
  sessionStorage.setItem(`halsted draft ["north/eve","${SECOND}","comment"]`, '[{"written":"Look","fileS":12}]');
  function Whole() {
    const seen = [useComments(ID, 0), useComments(SECOND, 100)].map((comments) => ({ comments }) as FileSeen);
    return <Comments video={video} player={player} comments={commentsOfCase(seen, () => undefined)} />;
  }
  render(<Whole />);
  expect(await screen.findByLabelText("Comment at 1:52.0")).toBeTruthy();
  await userEvent.type(await field(), " here");
  expect(Object.values({ ...sessionStorage })).toEqual(['[{"written":"Look here","fileS":12}]']);
});

test("a comment on one file that is changed and sent leaves the draft of another file, which is shown next", async () => {
  const sent = { comment_id: "c", at_s: 30, text: "", author_name: "Eve", mine: true, created_s: 1, looks_like: [] };
  answers({ [`POST ${PATH}`]: sent });
  sessionStorage.setItem(`halsted draft ["north/eve","${ID}","comment"]`, '[{"written":"First","fileS":30}]');
  sessionStorage.setItem(`halsted draft ["north/eve","${SECOND}","comment"]`, '[{"written":"Second","fileS":12}]');
  function Whole() {
    const seen = [useComments(ID, 0), useComments(SECOND, 100)].map((comments) => ({ comments }) as FileSeen);
    return <Comments video={video} player={player} comments={commentsOfCase(seen, () => seen[0])} />;
  }
  render(<Whole />);
  expect(await screen.findByLabelText("Comment at 0:30.0")).toBeTruthy();
  await userEvent.type(await field(), " look");
  expect(sessionStorage.length).toBe(2);
  await userEvent.click(screen.getByRole("button", { name: "Add the comment" }));
  expect(await screen.findByLabelText("Comment at 1:52.0")).toBeTruthy();
  expect((await field()).value).toBe("Second");
  expect(Object.values({ ...sessionStorage })).toEqual(['[{"written":"Second","fileS":12}]']);
});

test("of two comments that are begun on one file, who clears the first and writes anew keeps the second", async () => {
  answers();
  const second = { written: "Second", fileS: 12 };
  sessionStorage.setItem(`halsted draft ["north/eve","${ID}","comment"]`, JSON.stringify([{ written: "First", fileS: 30 }, second]));
  const kept = () => Object.values({ ...sessionStorage }).flatMap((text) => JSON.parse(text as string) as unknown[]);
  render(<Shown />);
  expect(await screen.findByLabelText("Comment at 0:30.0")).toBeTruthy();
  await userEvent.clear(await field());
  expect(kept()).toEqual([second]);
  player.timeS.value = 5;
  await userEvent.type(await field(), "Third");
  expect(kept()).toEqual([{ written: "Third", fileS: 5 }, second]);
  await userEvent.clear(await field());
  await userEvent.tab();
  expect((await field()).value).toBe("Second");
});

test("a half-written description stands open again, until it is saved or closed", async () => {
  answers();
  const card = <Card found={found(1)} procedures={[]} reload={async () => {}} chosen={null} onChoose={() => {}} />;
  render(card);
  await userEvent.click(screen.getByRole("button", { name: /^Describe/ }));
  await userEvent.type(screen.getByLabelText("Procedure"), "Nephrectomy");
  cleanup();
  render(card);
  expect((screen.getByLabelText("Procedure") as HTMLInputElement).value).toBe("Nephrectomy");
  await userEvent.click(screen.getByRole("button", { name: "Close" }));
  expect(sessionStorage.length).toBe(0);
});

test("what is written while a description is being saved stays", async () => {
  const warned = { ...found(1), labels: ["Jane Doe"], looks_like: [{ text: "Jane Doe", kind: "name" }] };
  answers({ [`PATCH v1/cases/${found(1).case_id}`]: warned });
  let reloaded = () => {};
  const reload = () => new Promise<void>((done) => (reloaded = done));
  render(<Describe found={found(1)} procedures={[]} reload={reload} onClose={() => {}} />);
  const labels = () => screen.getByLabelText<HTMLInputElement>(/^Labels/);
  await userEvent.clear(labels());
  await userEvent.type(labels(), "Jane Doe");
  await userEvent.click(screen.getByRole("button", { name: "Save" }));
  await screen.findByRole("alert");
  await userEvent.clear(labels());
  await userEvent.type(labels(), "learning");
  reloaded();
  await waitFor(() => expect(screen.getByRole("button", { name: "Save" })).toHaveProperty("disabled", false));
  expect(labels().value).toBe("learning");
});

test("a half-written description leaves what a colleague changed meanwhile in its other fields", async () => {
  const asked = answers({ [`PATCH v1/cases/${found(1).case_id}`]: { ...found(1), looks_like: [] } });
  const card = (changes: Partial<Case>) => <Card found={found(1, changes)} procedures={[]} reload={async () => {}} chosen={null} onChoose={() => {}} />;
  render(card({}));
  await userEvent.click(screen.getByRole("button", { name: /^Describe/ }));
  await userEvent.type(screen.getByLabelText("Procedure"), "Nephrectomy");
  await userEvent.type(screen.getByLabelText(/^Labels/), "x{Backspace}");
  cleanup();
  render(card({ labels: ["of a colleague"] }));
  expect((screen.getByLabelText(/^Labels/) as HTMLInputElement).value).toBe("of a colleague");
  await userEvent.click(screen.getByRole("button", { name: "Save" }));
  await waitFor(() => expect(asked.find((one) => one.method === "PATCH")?.body).toEqual({ procedure: "Nephrectomy" }));
});
