import { ApiError } from "../../api/client";
import { Problem } from "../../components/Problem";

/** What did not work, if something did not. */
export function Failure({ error }: { error: unknown }) {
  if (error === null || error === undefined) return null;
  const why = error instanceof Error ? error.message : null;
  const said = error instanceof ApiError ? error.said : { kind: "unknown", detail: why };
  return (
    <div className="card notice" role="alert">
      <Problem error={said} />
    </div>
  );
}
