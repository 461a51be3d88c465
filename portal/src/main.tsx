import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { App } from "./app/App";
import { start } from "./i18n";
import "./theme/tokens.css";
import "./theme/base.css";
import "./theme/parts.css";

const root = document.getElementById("root");
if (root !== null) {
  await start();
  createRoot(root).render(
    <StrictMode>
      <App />
    </StrictMode>,
  );
}
