import type { ComponentChildren } from "preact";
import { useId, useRef, useState } from "preact/hooks";

export interface Tab {
  key: string;
  title: string;
  body: () => ComponentChildren;
}

/**
 * Panels of which one is seen. A panel is made when it is first opened and then kept, so what is half written in it is
 * there when the user comes back.
 */
export function Tabs({ name, tabs }: { name: string; tabs: Tab[] }) {
  const id = useId();
  const [chosen, setChosen] = useState(tabs[0]?.key);
  const opened = useRef(new Set<string>());
  const buttons = useRef<HTMLDivElement>(null);
  const current = tabs.some((tab) => tab.key === chosen) ? chosen : tabs[0]?.key;
  if (current !== undefined) opened.current.add(current);
  const choose = (index: number) => {
    const tab = tabs[(index + tabs.length) % tabs.length];
    if (!tab) return;
    setChosen(tab.key);
    (buttons.current!.children[tabs.indexOf(tab)] as HTMLElement).focus();
  };
  return (
    <div class="tabs">
      <div
        role="tablist"
        aria-label={name}
        ref={buttons}
        onKeyDown={(event) => {
          const at = tabs.findIndex((tab) => tab.key === current);
          const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: tabs.length - 1 }[event.key];
          if (to === undefined) return;
          event.preventDefault();
          choose(to);
        }}
      >
        {tabs.map((tab) => (
          <button
            key={tab.key}
            type="button"
            role="tab"
            id={`${id}-${tab.key}`}
            aria-controls={`${id}-${tab.key}-panel`}
            aria-selected={tab.key === current}
            tabIndex={tab.key === current ? 0 : -1}
            onClick={() => setChosen(tab.key)}
          >
            {tab.title}
          </button>
        ))}
      </div>
      {tabs
        .filter((tab) => opened.current.has(tab.key))
        .map((tab) => (
          <div key={tab.key} role="tabpanel" id={`${id}-${tab.key}-panel`} aria-labelledby={`${id}-${tab.key}`} hidden={tab.key !== current}>
            {tab.body()}
          </div>
        ))}
    </div>
  );
}
