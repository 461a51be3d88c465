/**
 * The page's last policy: from here on it reaches its own server and the configured endpoints, and
 * nothing else. A policy can be added by a page and never be taken back.
 */
export function narrow(origins: string[]): void {
  const policy = document.createElement("meta");
  policy.httpEquiv = "Content-Security-Policy";
  policy.content = `connect-src 'self' ${[...new Set(origins)].join(" ")}`;
  document.head.append(policy);
}
