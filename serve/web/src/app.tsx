import { useEffect, useRef, useState } from "preact/hooks";

import { ApiError } from "./api/client";
import { useEvery } from "./api/resource";
import { Loading, Trouble } from "./components/messages";
import { Shell } from "./components/shell";
import { route } from "./router";
import { begin, isSignedIn, linked, mayRead, mayWrite } from "./session";
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
  useTitle();
  if (state === "asking") return <Shell><Loading /></Shell>;
  if (state !== "ready") return <Shell><Trouble error={state} again={ask} /></Shell>;
  return (
    <Shell>
      {mayWrite.value && <Tray />}
      <View />
    </Shell>
  );
}

/** Another view has another title, and the reading goes on at its beginning. */
function useTitle(): void {
  const { page, home, library, mine, about, compare } = words.value;
  const shown = route.value;
  const titles = { library: library.title, mine: mine.title, home: home.title, compare: compare.title };
  const title = shown.view === "case" ? about.name(shown.videoId) : shown.view === "whole" ? about.name(shown.caseId) : shown.view in titles ? titles[shown.view as keyof typeof titles] : "";
  const before = useRef(title);
  useEffect(() => {
    document.title = title ? `${title} · ${page.title}` : page.title;
    if (before.current !== title) document.getElementById("content")?.focus();
    before.current = title;
  }, [title]);
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
      return <Compare key={shown.videoIds.join()} videoIds={shown.videoIds} />;
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
