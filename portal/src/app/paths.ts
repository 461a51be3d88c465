/** The addresses of the pages. Nothing private is ever part of one. */
export const paths = { verify: "/verify", patient: "/patient" } as const;
