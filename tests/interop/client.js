// Copyright (c) changetracking.inventory contributors
// GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
// client.js OPTIONS RECORDS: sends the records (a JSON array), and ends well when all are acknowledged (or, without acks, written).
"use strict";

const { EventTime, FluentClient } = require("@fluent-org/logger");

const options = JSON.parse(process.argv[2]);
const records = JSON.parse(process.argv[3]);

async function main() {
  const client = new FluentClient("tag", options);
  const times = [1700000000000, new Date(1700000000000), new EventTime(1700000000, 5)];
  await Promise.all(records.map((record, index) => client.emit("label", record, times[index % times.length])));
  await client.shutdown();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
