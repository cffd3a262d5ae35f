import { useId, useRef, useState } from "preact/hooks";

import { words } from "../../words";

/**
 * A list of categories that is searched by writing: arrows move, Enter takes, Escape leaves all as it was.
 * `label` names the field; `value` is what holds now.
 */
export function CategoryMenu({ label, value, categories, onChange }: { label: string; value: string; categories: readonly string[]; onChange: (category: string) => void }) {
  const { edit: text } = words.value;
  const id = useId();
  const field = useRef<HTMLInputElement>(null);
  /** What is written while the list is open; null: closed. */
  const [wanted, setWanted] = useState<string | null>(null);
  const [active, setActive] = useState(0);
  const isOpen = wanted !== null;
  const found = categories.filter((category) => category.toLocaleLowerCase().includes((wanted ?? "").trim().toLocaleLowerCase()));
  const open = () => {
    if (isOpen) return;
    setWanted("");
    setActive(Math.max(0, categories.indexOf(value)));
  };
  const take = (category: string | undefined) => {
    setWanted(null);
    if (category !== undefined && category !== value) onChange(category);
  };
  const move = (to: number) => {
    open();
    if (!found.length) return;
    const next = (to + found.length) % found.length;
    setActive(next);
    document.getElementById(`${id}-${next}`)?.scrollIntoView?.({ block: "nearest" });
  };
  return (
    <div class="menu field">
      <label for={id}>{label}</label>
      <input
        ref={field}
        id={id}
        role="combobox"
        aria-expanded={isOpen}
        aria-controls={`${id}-list`}
        aria-autocomplete="list"
        aria-activedescendant={isOpen && found.length ? `${id}-${active}` : undefined}
        autocomplete="off"
        spellcheck={false}
        placeholder={isOpen ? value || text.search : undefined}
        value={wanted ?? value}
        onFocus={open}
        onClick={open}
        onBlur={() => setWanted(null)}
        onInput={(event) => {
          setWanted(event.currentTarget.value);
          setActive(0);
        }}
        onKeyDown={(event) => {
          if (event.key === "ArrowDown") move(isOpen ? active + 1 : active);
          else if (event.key === "ArrowUp") move(isOpen ? active - 1 : active);
          else if (event.key === "Enter" && isOpen) take(found[active]);
          else if (event.key === "Escape" && isOpen) setWanted(null);
          else return;
          event.preventDefault();
          event.stopPropagation();
        }}
      />
      <ul id={`${id}-list`} role="listbox" aria-label={label} hidden={!isOpen}>
        {found.map((category, n) => (
          <li
            key={category}
            id={`${id}-${n}`}
            role="option"
            aria-selected={n === active}
            // A press takes the focus from the field, which would close the list before the click arrives.
            onPointerDown={(event) => event.preventDefault()}
            onClick={() => {
              take(category);
              field.current?.focus();
              setWanted(null);
            }}
          >
            {category}
            {category === value && <span aria-hidden="true"> ✓</span>}
          </li>
        ))}
      </ul>
      {isOpen && found.length === 0 && <p class="soft" role="status">{text.noCategory}</p>}
    </div>
  );
}
