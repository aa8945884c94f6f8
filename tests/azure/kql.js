// Copyright (c) changetracking.inventory contributors
// GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
// What Microsoft's own parser of KQL says about queries. Input: {"tables": {name: schema}, "queries": {name: text}}.
const path = require("path");
const base = path.join(path.dirname(process.env.CT_NPM), "@kusto", "language-service-next");
require(path.join(base, "bridge.min.js"));
require(path.join(base, "Kusto.Language.Bridge.min.js"));
const { DatabaseSymbol, TableSymbol } = Kusto.Language.Symbols;
let text = "";
process.stdin.on("data", (piece) => (text += piece)).on("end", () => {
  const { tables, queries } = JSON.parse(text);
  const symbols = Object.keys(tables).map((name) => TableSymbol.From(tables[name]).WithName(name));
  const database = new DatabaseSymbol.$ctor1("workspace", System.Array.init(symbols, Kusto.Language.Symbols.Symbol), false);
  const globals = Kusto.Language.GlobalState.Default.WithDatabase(database);
  const found = {};
  for (const name of Object.keys(queries)) {
    const code = Kusto.Language.KustoCode.ParseAndAnalyze(queries[name], globals);
    const diagnostics = Bridge.toArray(code.GetDiagnostics()).map((one) => one.Message);
    const columns = code.ResultType ? Bridge.toArray(code.ResultType.Columns).map((one) => [one.Name, one.Type.Name]) : [];
    found[name] = { diagnostics, columns };
  }
  console.log(JSON.stringify(found));
});
