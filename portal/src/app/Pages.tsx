import { lazy, Suspense } from "react";
import { useTranslation } from "react-i18next";
import { Link, Navigate, Route, Routes } from "react-router";
import { Loading } from "../components/Loading";
import { paths } from "./paths";

const Patient = lazy(() => import("../pages/patient/PatientPage"));
const Verify = lazy(() => import("../pages/verify/VerifyPage"));

/** Every page and its address. A page is loaded when it is first read. */
export function Pages() {
  const { t } = useTranslation();
  return (
    <Suspense fallback={<Loading text={t("verify.loading")} />}>
      <Routes>
        <Route path="/" element={<Navigate to={paths.verify} replace />} />
        <Route path={paths.verify} element={<Verify />} />
        <Route path={paths.patient} element={<Patient />} />
        <Route path="*" element={<NotFound />} />
      </Routes>
    </Suspense>
  );
}

function NotFound() {
  const { t } = useTranslation();
  return (
    <>
      <h1>{t("shell.notFound")}</h1>
      <p>
        <Link to={paths.verify}>{t("shell.toVerify")}</Link>
      </p>
    </>
  );
}
