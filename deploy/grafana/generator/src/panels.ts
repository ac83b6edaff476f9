// What our panels have in common. Every one has a title, a description that says what to make of it, and a unit; queries name
// the data source by variable and select the servers by the variable `instance`.
import * as cog from '@grafana/grafana-foundation-sdk/cog';
import * as common from '@grafana/grafana-foundation-sdk/common';
import * as dashboard from '@grafana/grafana-foundation-sdk/dashboard';
import * as heatmap from '@grafana/grafana-foundation-sdk/heatmap';
import * as prometheus from '@grafana/grafana-foundation-sdk/prometheus';
import * as stat from '@grafana/grafana-foundation-sdk/stat';
import * as timeseries from '@grafana/grafana-foundation-sdk/timeseries';

export const DATASOURCE: dashboard.DataSourceRef = { type: 'prometheus', uid: '$datasource' };

// The matchers of every query; more of them go in front.
export function select(metric: string, matchers = ''): string {
  return `${metric}{${matchers === '' ? '' : `${matchers}, `}job="normlab", instance=~"$instance"}`;
}

// Change per second of a counter, over a window that fits the zoom.
export function rate(metric: string, matchers = ''): string {
  return `rate(${select(metric, matchers)}[$__rate_interval])`;
}

export function quantile(q: number, histogram: string, matchers = '', by: string[] = []): string {
  return `histogram_quantile(${q}, sum by (${[...by, 'le'].join(', ')}) (${rate(`${histogram}_bucket`, matchers)}))`;
}

export interface Query {
  expr: string;
  legend: string;
}

interface Common {
  title: string;
  description: string;
  unit: string;
  queries: Query[];
  width?: number; // of 24
  height?: number;
}

export interface Graph extends Common {
  stacked?: boolean;
  max?: number;
  min?: number;
  logarithmic?: boolean;
  // Where the line of what is wanted or possible lies.
  limit?: number;
}

export interface Number extends Common {
  // Value from which the panel turns orange and red; with `low`, below which.
  warn?: number;
  bad?: number;
  low?: boolean;
  decimals?: number;
}

function targets(queries: Query[]): cog.Builder<cog.Dataquery>[] {
  return queries.map(({ expr, legend }, i) =>
    new prometheus.DataqueryBuilder()
      .datasource(DATASOURCE)
      .expr(expr)
      .legendFormat(legend)
      .refId(String.fromCharCode('A'.charCodeAt(0) + i))
      .range());
}

export function graph(g: Graph): cog.Builder<dashboard.Panel> {
  const panel = new timeseries.PanelBuilder()
    .title(g.title)
    .description(g.description)
    .datasource(DATASOURCE)
    .targets(targets(g.queries))
    .unit(g.unit)
    .min(g.min ?? 0)
    .span(g.width ?? 8)
    .height(g.height ?? 7)
    .lineWidth(1.5)
    .fillOpacity(g.stacked ? 35 : 8)
    .showPoints(common.VisibilityMode.Never)
    .spanNulls(false)
    .legend(new common.VizLegendOptionsBuilder()
      .displayMode(common.LegendDisplayMode.List)
      .placement(common.LegendPlacement.Bottom)
      .showLegend(true))
    .tooltip(new common.VizTooltipOptionsBuilder()
      .mode(common.TooltipDisplayMode.Multi)
      .sort(common.SortOrder.Descending));
  if (g.stacked) {
    panel.stacking(new common.StackingConfigBuilder().mode(common.StackingMode.Normal));
  }
  if (g.max !== undefined) {
    panel.max(g.max);
  }
  if (g.logarithmic) {
    panel.scaleDistribution(new common.ScaleDistributionConfigBuilder().type(common.ScaleDistribution.Log).log(10));
  }
  if (g.limit !== undefined) {
    panel
      .thresholds(new dashboard.ThresholdsConfigBuilder()
        .mode(dashboard.ThresholdsMode.Absolute)
        .steps([{ value: null, color: 'transparent' }, { value: g.limit, color: 'red' }]))
      .thresholdsStyle(new common.GraphThresholdsStyleConfigBuilder().mode(common.GraphThresholdsStyleMode.Dashed));
  }
  return panel;
}

export function number(n: Number): cog.Builder<dashboard.Panel> {
  const steps: dashboard.Threshold[] = n.low
    ? [
        { value: null, color: 'red' },
        ...(n.bad !== n.warn && n.bad !== undefined ? [{ value: n.bad, color: 'orange' }] : []),
        { value: n.warn ?? n.bad ?? 0, color: 'green' },
      ]
    : [
        { value: null, color: 'green' },
        ...(n.warn !== undefined ? [{ value: n.warn, color: 'orange' }] : []),
        ...(n.bad !== undefined ? [{ value: n.bad, color: 'red' }] : []),
      ];
  const panel = new stat.PanelBuilder()
    .title(n.title)
    .description(n.description)
    .datasource(DATASOURCE)
    .targets(targets(n.queries))
    .unit(n.unit)
    .span(n.width ?? 4)
    .height(n.height ?? 4)
    .graphMode(common.BigValueGraphMode.Area)
    .colorMode(common.BigValueColorMode.Value)
    .textMode(common.BigValueTextMode.Auto)
    .reduceOptions(new common.ReduceDataOptionsBuilder().calcs(['lastNotNull']).values(false))
    .thresholds(new dashboard.ThresholdsConfigBuilder().mode(dashboard.ThresholdsMode.Absolute).steps(steps));
  if (n.decimals !== undefined) {
    panel.decimals(n.decimals);
  }
  return panel;
}

// How often each range of a histogram was hit, over time.
export function density(d: Common & { histogram: string; matchers?: string }): cog.Builder<dashboard.Panel> {
  return new heatmap.PanelBuilder()
    .title(d.title)
    .description(d.description)
    .datasource(DATASOURCE)
    .withTarget(new prometheus.DataqueryBuilder()
      .datasource(DATASOURCE)
      .expr(`sum by (le) (increase(${select(`${d.histogram}_bucket`, d.matchers)}[$__rate_interval]))`)
      .format(prometheus.PromQueryFormat.Heatmap)
      .legendFormat('{{le}}')
      .refId('A')
      .range())
    .unit('short')
    .span(d.width ?? 8)
    .height(d.height ?? 7)
    .calculate(false)
    .yAxis(new heatmap.YAxisConfigBuilder().unit(d.unit));
}

export interface Dashboard {
  uid: string;
  title: string;
  description: string;
  rows: { title: string; panels: cog.Builder<dashboard.Panel>[] }[];
}

export function build(d: Dashboard, all: { uid: string; title: string }[]): dashboard.Dashboard {
  const builder = new dashboard.DashboardBuilder(d.title)
    .uid(d.uid)
    .description(d.description)
    .tags(['normlab'])
    .editable()
    .tooltip(dashboard.DashboardCursorSync.Crosshair)
    .time({ from: 'now-1h', to: 'now' })
    .refresh('15s')
    .timezone('browser')
    .withVariable(new dashboard.DatasourceVariableBuilder('datasource').label('Data source').type('prometheus'))
    .withVariable(new dashboard.QueryVariableBuilder('instance')
      .label('Server')
      .datasource(DATASOURCE)
      .query('label_values(normlab_build_info{job="normlab"}, instance)')
      .refresh(dashboard.VariableRefresh.OnTimeRangeChanged)
      .sort(dashboard.VariableSort.AlphabeticalAsc)
      .multi(true)
      .includeAll(true)
      .allValue('.+')
      .current({ selected: true, text: 'All', value: '$__all' }));
  for (const other of all) {
    if (other.uid !== d.uid) {
      builder.link(new dashboard.DashboardLinkBuilder(other.title)
        .type(dashboard.DashboardLinkType.Link)
        .icon('dashboard')
        .tooltip(`Go to ${other.title}, same time and servers`)
        .url(`/d/${other.uid}`)
        .keepTime(true)
        .includeVars(true)
        .targetBlank(false));
    }
  }
  for (const row of d.rows) {
    builder.withRow(new dashboard.RowBuilder(row.title));
    for (const panel of row.panels) {
      builder.withPanel(panel);
    }
  }
  const built = builder.build();
  // Fixed, so that links to single panels last.
  built.panels?.forEach((panel, i) => { panel.id = i + 1; });
  return built;
}
