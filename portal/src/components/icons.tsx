/** Pictures that repeat what a word beside them says; a screen reader passes over them. */
import type { ReactNode } from "react";

function Icon({ children }: { children: ReactNode }) {
  return (
    <svg
      className="icon"
      viewBox="0 0 24 24"
      fill="none"
      stroke="currentColor"
      strokeWidth="2.2"
      strokeLinecap="round"
      strokeLinejoin="round"
      aria-hidden="true"
      focusable="false"
    >
      {children}
    </svg>
  );
}

export const Yes = () => (
  <Icon>
    <path d="M4.5 12.5l5 5 10-11" />
  </Icon>
);
export const No = () => (
  <Icon>
    <path d="M6 6l12 12M18 6L6 18" />
  </Icon>
);
export const Clock = () => (
  <Icon>
    <circle cx="12" cy="12" r="8.5" />
    <path d="M12 7v5.2l3.4 2" />
  </Icon>
);
export const Question = () => (
  <Icon>
    <path d="M8.6 9a3.5 3.5 0 1 1 5 3.2c-1 .5-1.6 1.2-1.6 2.3" />
    <path d="M12 18.2v.1" />
  </Icon>
);
export const Stop = () => (
  <Icon>
    <path d="M12 6.5v7" />
    <path d="M12 17.4v.1" />
  </Icon>
);
export const Sheet = () => (
  <Icon>
    <path d="M7 3.5h7.5L19 8v12.5H7z" />
    <path d="M14 3.5V8.5h5M10 13h6M10 16.5h4" />
  </Icon>
);
export const Chevron = () => (
  <Icon>
    <path d="M9 6l6 6-6 6" />
  </Icon>
);
export const Mark = () => (
  <svg className="mark" viewBox="0 0 32 32" aria-hidden="true" focusable="false">
    <rect width="32" height="32" rx="9" />
    <path d="M9.5 16.7l4.6 4.6 8.6-10" />
  </svg>
);
