// Copyright (c) changetracking.inventory contributors
// GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
// server.js COUNT [CERT KEY]: prints its port, and, once it has that many entries, all of them as a JSON array.
"use strict";

const fs = require("fs");
const { FluentServer } = require("@fluent-org/logger");

const count = Number(process.argv[2]);
const entries = [];

class Keeper extends FluentServer {
  onEntry(tag, time, record) {
    if (entries.push([tag, time, record]) === count) {
      // Later, so that the ack of the last message gets out.
      setTimeout(() => process.stdout.write(JSON.stringify(entries), () => process.exit(0)), 100);
    }
  }
}

async function main() {
  const [cert, key] = process.argv.slice(3).map((path) => fs.readFileSync(path));
  const server = new Keeper({
    listenOptions: { host: "127.0.0.1", port: 0 },
    tlsOptions: cert && { cert, key },
  });
  await server.listen();
  process.stdout.write(server.port + "\n");
}

main();
