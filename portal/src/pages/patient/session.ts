/** A patient who is logged in. The keys stay in WebAssembly, the token in this page's memory. */
import { answered, ApiError, connect, isOver, type Client, type Schemas } from "../../api/client";
import type { Outcome } from "../../protocol/binding";
import type { Patient } from "../../protocol/patient";

export type Session = {
  patient: Patient;
  circle: string;
  /** Asks the API; logs in again if the session is over, which it is every quarter of an hour. */
  ask: <T>(question: (api: Client, circle: string) => Promise<T>) => Promise<T>;
};

function sound<T>(outcome: Outcome<T>): T {
  if (!outcome.ok) throw new ApiError(outcome.error);
  return outcome.value;
}

async function logIn(patient: Patient, circle: string): Promise<Client> {
  const stranger = connect(null);
  const challenge = await answered(stranger.POST("/v1/challenges"));
  const signed = sound(patient.logIn(location.origin, challenge));
  const body: Schemas["Login"] = {
    as: { who: "party_of", context: circle },
    ...signed,
    signature: signed.signature as unknown as Schemas["Login"]["signature"],
  };
  const session = await answered(stranger.POST("/v1/sessions", { body }));
  return connect(session.token);
}

/** Logs a patient in at the hospital from which this page came. */
export async function begin(patient: Patient, circle: string): Promise<Session> {
  let api = await logIn(patient, circle);
  return {
    patient,
    circle,
    ask: async (question) => {
      try {
        return await question(api, circle);
      } catch (error) {
        if (!isOver(error)) throw error;
        api = await logIn(patient, circle);
        return question(api, circle);
      }
    },
  };
}

/** Takes a consent back: what opens its handle is found here, and brought to the hospital. */
export async function revoke(
  session: Session,
  consent: { handle: string; salt: string },
): Promise<Schemas["Revoked"]> {
  const body = sound(session.patient.revocation(consent));
  return session.ask((api, context) =>
    answered(
      api.POST("/v1/circles/{context}/revocations", { params: { path: { context } }, body }),
    ),
  );
}
