/** Follows a pointer from where it went down until it goes up, also outside of the element. */
export interface Drag {
  /** `x`: pixels from the element's left edge; `byX`: pixels since the pointer went down; `moved`: more than a tremble. */
  move?: (at: { x: number; byX: number; moved: boolean }) => void;
  end: (at: { x: number; byX: number; moved: boolean }) => void;
  /** The browser took the pointer away, such as to scroll the page. */
  cancel?: () => void;
}

const TREMBLE_PX = 4;

export function drag(event: PointerEvent, drag: Drag): void {
  const element = event.currentTarget as HTMLElement;
  const left = element.getBoundingClientRect().left;
  let moved = false;
  const at = (now: PointerEvent) => {
    const byX = now.clientX - event.clientX;
    moved ||= Math.abs(byX) > TREMBLE_PX;
    return { x: now.clientX - left, byX, moved };
  };
  element.setPointerCapture(event.pointerId);
  const stop = new AbortController();
  const own = (act: (now: PointerEvent) => void) => (now: Event) => {
    if ((now as PointerEvent).pointerId === event.pointerId) act(now as PointerEvent);
  };
  const options = { signal: stop.signal };
  element.addEventListener("pointermove", own((now) => drag.move?.(at(now))), options);
  element.addEventListener("pointerup", own((now) => {
    stop.abort();
    drag.end(at(now));
  }), options);
  element.addEventListener("pointercancel", own(() => {
    stop.abort();
    drag.cancel?.();
  }), options);
}
