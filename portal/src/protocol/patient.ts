/**
 * A patient's keys: they are opened in WebAssembly and stay there. What comes out are signatures,
 * and what opens the handle of a consent that is taken back.
 */
import { key_file_bytes_max, Patient as Binding } from "../../binding/medsync";
import type { Challenge, Kinded, Revocation, SignedChallenge } from "../../binding/medsync";
import { attempt, read, type Outcome } from "./binding";

/** The largest file of keys, in bytes. */
export const keyFileBytesMax = (): number => key_file_bytes_max();

export type Patient = {
  /** By which their consents are signed. */
  key: string;
  logIn: (origin: string, challenge: Challenge) => Outcome<SignedChallenge>;
  revocation: (consent: { handle: string; salt: string }) => Outcome<Revocation>;
};

const about = <T>(kind: string, outcome: Outcome<T>): Outcome<T> =>
  outcome.ok ? outcome : { ok: false, error: { kind, detail: outcome.error } satisfies Kinded };

/** Opens a file of keys, or a recovery file. It takes a second or two, by design. */
export function openKeys(bytes: Uint8Array, passphrase: string): Outcome<Patient> {
  const opened = attempt(() => new Binding(bytes, passphrase));
  if (!opened.ok) return about("keys", opened);
  const keys = opened.value;
  const answer = <T>(run: () => string) => about("patient", attempt(() => read<T>(run())));
  return {
    ok: true,
    value: {
      key: keys.key(),
      logIn: (origin, challenge) => answer(() => keys.logIn(origin, JSON.stringify(challenge))),
      revocation: ({ handle, salt }) =>
        answer(() => keys.revocation(JSON.stringify({ handle, salt }))),
    },
  };
}
