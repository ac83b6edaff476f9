// Run by node behind Vega's script: draws the chart of the spec file argv[2] into the SVG file argv[3].
const files = require('fs');
const spec = JSON.parse(files.readFileSync(process.argv[2], 'utf8'));
new vega.View(vega.parse(spec, null, {ast: true}), {renderer: 'none', expr: vega.expressionInterpreter}).toSVG().then(
    (svg) => files.writeFileSync(process.argv[3], svg + '\n'),
    (error) => { process.stderr.write(String(error && error.stack || error) + '\n'); process.exitCode = 1; });
