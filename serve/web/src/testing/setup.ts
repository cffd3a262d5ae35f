import { cleanup, configure } from "@testing-library/preact";
import { afterAll, afterEach, vi } from "vitest";

// How busy a machine is must not decide.
configure({ asyncUtilTimeout: 10_000 });
vi.setConfig({ testTimeout: 30_000 });

// jsdom has the element of a dialog, and not yet its methods.
HTMLDialogElement.prototype.showModal ??= function (this: HTMLDialogElement) {
  this.open = true;
};
HTMLDialogElement.prototype.close ??= function (this: HTMLDialogElement) {
  this.open = false;
};

// jsdom has no text tracks, and a method that says so with each call; `captions.test.tsx` brings its own.
Reflect.deleteProperty(HTMLMediaElement.prototype, "addTextTrack");

afterEach(() => {
  cleanup();
  localStorage.clear();
  location.hash = "";
});

// Preact runs effects up to 35 ms later, and then still needs the window.
afterAll(() => new Promise((done) => setTimeout(done, 60)));
