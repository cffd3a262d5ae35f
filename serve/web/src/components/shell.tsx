import type { ComponentChildren } from "preact";

import { model } from "../model";
import { go, route, toHome, toLibrary, toMine } from "../router";
import { isSignedIn, mayRead, session, signOut } from "../session";
import { LANGUAGES, type Language, language, speak, words } from "../words";
import { AboutModel } from "./about-model";
import { useAction } from "./action";
import { Trouble } from "./messages";
import { NewKey } from "./new-key";

/** What stands around every view: the way to each other view, who is signed in, and the one line on the model. */
export function Shell({ children }: { children: ComponentChildren }) {
  const { page, mine } = words.value;
  const leaving = useAction(async () => {
    await signOut();
    go(toHome);
  });
  return (
    <>
      <a class="skip" href="#content" onClick={skip}>
        {page.skip}
      </a>
      <header class="top">
        <a class="brand" href={toHome}>
          {page.title}
        </a>
        {mayRead.value ? (
          <nav aria-label={page.menu}>
            <Link to={toHome} here={route.value.view === "home"} text={page.home} />
            <Link to={toLibrary()} here={route.value.view === "library"} text={page.library} />
            <Link to={toMine()} here={route.value.view === "mine"} text={mine.nav} />
          </nav>
        ) : (
          <div class="no-nav" />
        )}
        <div class="who">
          <label class="seen-by-readers" for="language">
            {page.language}
          </label>
          <select id="language" value={language.value} onChange={(event) => speak(event.currentTarget.value as Language)}>
            {Object.entries(LANGUAGES).map(([code, name]) => (
              <option key={code} value={code} lang={code}>
                {name}
              </option>
            ))}
          </select>
          {isSignedIn.value && (
            <>
              <span>
                <bdi>{`${session.value?.name}, ${session.value?.tenant}`}</bdi> <span class="soft">({roleOf(session.value?.role)})</span>
              </span>
              <NewKey />
              <button type="button" class="plain small" disabled={leaving.busy} onClick={() => void leaving.run()}>
                {page.signOut}
              </button>
            </>
          )}
        </div>
      </header>
      <aside class="research" aria-label={page.about}>
        {model.value ? page.research(model.value.version) : page.researchOnly}
      </aside>
      <main id="content" tabIndex={-1}>
        <Trouble error={leaving.error} />
        {children}
      </main>
      <AboutModel />
    </>
  );
}

const Link = ({ to, here, text }: { to: string; here: boolean; text: string }) => (
  <a href={to} aria-current={here ? "page" : undefined}>
    {text}
  </a>
);

const roleOf = (role: string | null | undefined): string => words.value.account.roles[role ?? ""] ?? role ?? "";

/** The address behind # is the route, so the link moves the focus by itself. */
function skip(event: Event): void {
  event.preventDefault();
  document.getElementById("content")?.focus();
}
