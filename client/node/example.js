// node example.js SERVER SPEC.json: submits the job, shows it live, then the last loss. SPEC.json is in snake_case.
'use strict';
const { readFileSync } = require('fs');
const { Normlab } = require('./normlab.js');

async function main(server, file) {
  const normlab = new Normlab(server, { token: process.env.NORMLAB_TOKEN });
  const info = await normlab.info();
  console.log(`normlabd ${info.version}, ${info.cores} cores, ${info.isa}`);
  const job = await normlab.submit(JSON.parse(readFileSync(file, 'utf8')));
  console.log(job.name, job.state);
  for await (const record of normlab.watch(job.name)) console.log(JSON.stringify(record));
  const { 'train/loss': loss } = await normlab.metrics(job.name, ['train/loss']);
  console.log(`train/loss at step ${loss.steps.at(-1)}: ${loss.values.at(-1)}`);
  normlab.close();
}

main(...process.argv.slice(2)).catch((error) => {
  console.error(`${error.code ?? ''} ${error.details ?? error.message}`);
  process.exit(1);
});
