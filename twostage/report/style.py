"""The report's style sheet: light and dark, screens, phones and paper; one accent colour, tabular figures."""

STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1b1c1e; --soft: #64666b; --line: #dfe0e3;
  --faint: #f4f5f6; --accent: #0a5fb4; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #16181b; --ink: #e6e7e9; --soft: #9b9ea5; --line: #33363b; --faint: #1f2226; --accent: #74b3f2; }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--paper); color: var(--ink); overflow-wrap: anywhere; }
body, svg text { font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "PingFang SC", "Hiragino Sans GB",
  "Microsoft YaHei", "Noto Sans CJK SC", "Noto Sans SC", sans-serif; font-variant-numeric: tabular-nums; }
main { max-width: 1200px; margin: 0 auto; padding: 40px 32px 64px; }
header { margin-bottom: 8px; }
h1 { font-size: 14px; font-weight: 600; margin: 0; letter-spacing: .01em; }
h1 + p, .facts { color: var(--soft); font-size: 13px; margin: 2px 0 0; }
.verdict { font-size: 25px; line-height: 1.36; font-weight: 450; letter-spacing: -.008em; margin: 36px 0 20px;
  max-width: 38em; text-wrap: pretty; }
.verdict p { margin: 0 0 .5em; }
.verdict p + p { font-size: 17px; color: var(--soft); letter-spacing: 0; }
.facts { margin-bottom: 30px; }
.group { margin-top: 40px; }
.group + .group { border-top: 3px solid var(--ink); padding-top: 28px; margin-top: 72px; }
section { border-top: 1px solid var(--line); padding: 22px 0 34px; display: grid; gap: 14px 40px;
  grid-template-columns: minmax(0, 1fr); }
h2 { font-size: 15px; font-weight: 600; margin: 0 0 6px; }
h3 { font-size: 13px; font-weight: 600; margin: 22px 0 6px; }
h3:first-child { margin-top: 0; }
.about p { font-size: 13px; color: var(--soft); margin: 0 0 8px; max-width: 60em; }
@media (min-width: 1020px) {
  section:not(.wide) { grid-template-columns: 220px minmax(0, 1fr); }
  section.wide .about { display: grid; grid-template-columns: 220px minmax(0, 1fr); gap: 40px; }
}
.scroll { overflow-x: auto; -webkit-overflow-scrolling: touch; }
table { border-collapse: collapse; font-size: 13px; line-height: 1.35; }
th, td { padding: 4px 14px 4px 0; text-align: left; vertical-align: baseline; white-space: nowrap; }
th { font-weight: 600; }
thead th { border-bottom: 1px solid var(--ink); vertical-align: bottom; }
tbody tr + tr > * { border-top: 1px solid var(--line); }
tbody.sum { border-top: 1px solid var(--ink); }
td.n, th.n { text-align: right; }
th.soft, td.soft, .soft { color: var(--soft); font-weight: 400; }
td:last-child, th:last-child { padding-right: 0; }
td.text { white-space: normal; min-width: 15em; max-width: 44em; }
.sub { display: block; white-space: pre-line; font-weight: 400; color: var(--soft); font-size: 12px; }
.best { color: var(--accent); font-weight: 650; }
.bar { display: inline-block; vertical-align: middle; width: 96px; height: 8px; margin-left: 10px;
  background: var(--faint); }
.bar i { display: block; height: 8px; background: var(--accent); }
.first { position: sticky; left: 0; background: var(--paper); z-index: 1; padding-right: 14px !important; }
table.full { width: 100%; }
.whole { white-space: nowrap; }
table.recipes thead tr:first-child th { border-bottom: 0; padding-bottom: 0; }
table.recipes .n { padding-right: 8px; padding-left: 4px; }
table.recipes .start { border-left: 10px solid transparent; background-clip: padding-box; }
table.confusion td { text-align: right; min-width: 3.5em; padding: 4px 6px; border: 1px solid var(--paper); }
table.confusion td { background: color-mix(in srgb, var(--accent) calc(var(--a, 0) * 1%), var(--faint)); }
table.confusion td.deep { color: var(--paper); }
table.confusion td.zero { color: color-mix(in srgb, var(--soft) 45%, transparent); }
table.confusion tr > * { border-top: 1px solid var(--paper) !important; }
table.confusion td.hit { font-weight: 600; }
table.confusion thead th { border: 0; text-align: center; padding: 2px 3px; font-weight: 400; }
table.confusion th span { writing-mode: vertical-rl; max-height: 9em; overflow: hidden; }
table.confusion .first { text-align: right; font-weight: 400; padding-right: 10px !important; }
figure { margin: 0; }
figure + .scroll { margin-top: 22px; }
svg { display: block; max-width: 100%; height: auto; overflow: visible; }
.narrow { display: none; }
@media (max-width: 719px) {
  .broad { display: none; }
  .narrow { display: block; }
  main { padding: 22px 16px 40px; }
  .verdict { font-size: 20px; margin: 24px 0 16px; }
  .verdict p + p { font-size: 15px; }
  section { padding: 18px 0 26px; }
}
svg text { font-size: 12px; line-height: 1; fill: var(--ink); }
svg .tick { fill: var(--soft); }
svg .end { text-anchor: end; }
svg .mid { text-anchor: middle; }
svg path { fill: none; }
svg .grid { stroke: var(--line); }
svg .axis { stroke: var(--soft); }
svg .mark { stroke: var(--soft); stroke-dasharray: 2 3; }
svg .leader { stroke: var(--soft); stroke-width: .6; opacity: .7; }
svg .ink { stroke: var(--ink); }
svg .accent { stroke: var(--accent); }
svg text.ink, svg text.accent { stroke: none; }
svg text.accent { fill: var(--accent); font-weight: 600; }
svg .line { stroke-width: 1.5; stroke-linejoin: round; }
svg .accent.line { stroke-width: 2; }
svg .ink.line { opacity: .75; }
svg .whisker { stroke-width: 1.2; }
svg .dot { stroke-width: 1.3; }
svg .ink.dot { fill: var(--ink); }
svg .accent.dot { fill: var(--accent); }
svg .dot.hollow { fill: var(--paper); }
svg .band { stroke: none; }
svg .ink.band { fill: var(--ink); opacity: .09; }
svg .accent.band { fill: var(--accent); opacity: .16; }
.quote { margin: 0 0 14px; padding: 0 0 14px; border-bottom: 1px solid var(--line); }
.quote:last-child { border: 0; }
.quote p { margin: 0; max-width: 48em; }
.quote .said { font-size: 13px; }
.quote .where { font-size: 12px; color: var(--soft); }
ul.plain { list-style: none; margin: 0; padding: 0; font-size: 13px; }
ul.plain li { padding: 3px 0; max-width: 60em; }
@media print {
  :root { --paper: #fff; --ink: #000; --soft: #555; --line: #ccc; --faint: #f3f3f3; --accent: #0a4f96; }
  body { font-size: 10.5pt; }
  main { max-width: none; padding: 0; }
  .scroll { overflow: visible; }
  .quote, tr, figure, h2 { break-inside: avoid; }
  .about { break-after: avoid; }
  .verdict { font-size: 16pt; margin: 14pt 0; }
  table { font-size: 8.5pt; }
  th, td { padding-right: 8px; }
  .bar i, table.confusion td { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""
