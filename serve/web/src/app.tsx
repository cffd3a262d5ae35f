import { useEffect, useRef, useState } from "preact/hooks";

import { ApiError } from "./api/client";
import { useEvery } from "./api/resource";
import { Loading, Trouble } from "./components/messages";
import { Shell } from "./components/shell";
import { namedBy, type Route, route } from "./router";
import { begin, isSignedIn, linked, mayRead, mayWrite, whose } from "./session";
import { Tray } from "./upload/tray";
import { CaseView, WholeView } from "./views/case";
import { Compare } from "./views/compare";
import { HomeView } from "./views/home";
import { Library } from "./views/library";
import { Mine } from "./views/mine";
import { NoCases } from "./views/no-cases";
import { Setup } from "./views/setup";
import { Shared } from "./views/shared";
import { SignIn } from "./views/sign-in";
import { words } from "./words";

const ASK_AGAIN_MS = 2000;

export function App() {
  const [state, setState] = useState<"asking" | "ready" | unknown>("asking");
  const ask = () => begin().then(() => setState("ready"), setState);
  useEffect(() => void ask(), []);
  useEvery(state instanceof ApiError && state.mayPass ? ASK_AGAIN_MS : 0, ask);
  useTitle(state === "ready");
  if (state === "asking") return <Shell><Loading /></Shell>;
  if (state !== "ready") return <Shell><Trouble error={state} again={ask} /></Shell>;
  return (
    <Shell>
      {mayWrite.value && <Tray />}
      <View />
    </Shell>
  );
}

/** Another view, and another person, has another title, and the reading goes on at its beginning; not when the page is
 * opened, and not with another language. */
function useTitle(isReady: boolean): void {
  const { page } = words.value;
  const title = isReady ? titleNow() : "";
  const shown = `${whose.value} ${linked.value?.video_id} ${placeOf(route.value)}`;
  const before = useRef<string | null>(null);
  useEffect(() => {
    document.title = title ? `${title} · ${page.title}` : page.title;
  }, [title]);
  useEffect(() => {
    if (!isReady) return;
    if (before.current !== null && before.current !== shown) document.getElementById("content")?.focus();
    before.current = shown;
  }, [isReady, shown]);
}

/** What is shown, without the moment of it. */
const placeOf = (shown: Route): string =>
  [shown.view, "videoId" in shown ? shown.videoId : "", "caseId" in shown ? shown.caseId : "", "sides" in shown ? shown.sides : ""].join(" ");

function titleNow(): string {
  const { home, library, mine, about, compare, setup, shared, signIn } = words.value;
  const shown = route.value;
  if (shown.view === "setup") return setup.title;
  if (shown.view === "shared") return shared.title;
  if (linked.value) return about.name(linked.value.video_id);
  if (!isSignedIn.value) return signIn.title;
  if (shown.view === "case") return about.name(namedBy.value ?? shown.videoId);
  if (shown.view === "whole") return about.name(namedBy.value ?? shown.caseId);
  return { library, mine, home, compare, refused: home }[shown.view].title;
}

/** The view of the route. Each view is keyed by what it shows, so none keeps anything of the one before. */
function View() {
  const shown = route.value;
  if (shown.view === "setup") return <Setup key={shown.token} token={shown.token} />;
  if (shown.view === "shared") return <Shared key={shown.token} token={shown.token} />;
  if (linked.value) return <LinkedCaseView />;
  if (!isSignedIn.value) return <SignIn refused={shown.view === "refused"} />;
  if (!mayRead.value) return <NoCases />;
  switch (shown.view) {
    case "compare":
      return <Compare key={shown.sides.join()} sides={shown.sides} />;
    case "library":
      return <Library query={shown.query} />;
    case "whole":
      return <WholeView key={shown.caseId} caseId={shown.caseId} atS={shown.atS} />;
    case "mine":
      return <Mine query={shown.query} />;
    case "case":
      return <CaseView key={shown.videoId} videoId={shown.videoId} atS={shown.atS} />;
    default:
      return <HomeView />;
  }
}

/** Whoever came by a link sees its case, whatever the address says. */
function LinkedCaseView() {
  const { video_id: videoId, from_s: fromS } = linked.value!;
  const shown = route.value;
  const atS = shown.view === "case" && shown.videoId === videoId ? shown.atS : (fromS ?? 0);
  return (
    <>
      <p class="notice" role="note">
        {words.value.shared.readOnly}
      </p>
      <CaseView key={videoId} videoId={videoId} atS={atS} />
    </>
  );
}
