"""How the page looks: on a screen of any width, light or dark, and on paper."""

LIGHT = {
    "text": "#1d2730", "muted": "#50606e", "page": "#ffffff", "panel": "#f3f5f7",
    "line": "#d5dce2", "fault": "#b8501a", "fault-panel": "#fdf4ee", "good": "#2e7d4f",
    "good-panel": "#eef7f1", "accent": "#0b5fa5",
}  # fmt: skip
DARK = {
    "text": "#e6eaee", "muted": "#a9b6c1", "page": "#14191e", "panel": "#1f262d",
    "line": "#3a4650", "fault": "#f0955c", "fault-panel": "#2b211b", "good": "#6cc18f",
    "good-panel": "#1a2a20", "accent": "#7fbcf0",
}  # fmt: skip
ON_PAPER = {
    **LIGHT, "text": "#000000", "muted": "#333333", "panel": "#ffffff", "fault-panel": "#ffffff",
    "good-panel": "#ffffff",
}  # fmt: skip


def _variables(colours: dict[str, str], scheme: str) -> str:
    told = " ".join(f"--{name}: {colour};" for name, colour in colours.items())
    return f":root {{ color-scheme: {scheme}; {told} }}"


RULES = """
* { box-sizing: border-box; }
body { font: 16px/1.55 system-ui, sans-serif; color: var(--text); background: var(--page);
  margin: 0 auto; max-width: 60rem; padding: 1.5rem 1rem 3rem; overflow-wrap: break-word; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .3rem; }
h2 { font-size: 1.2rem; margin: 2.2rem 0 .6rem; }
h3 { font-size: 1rem; margin: 0 0 .3rem; }
p { margin: 0 0 .6rem; max-width: 46rem; }
.muted, figcaption, footer, .words { color: var(--muted); font-size: .88rem; }
.verdict { border-left: 5px solid var(--muted); background: var(--panel); padding: .8rem 1rem; }
.verdict.healthy { border-color: var(--good); background: var(--good-panel); }
.verdict ul { margin: .4rem 0 0; padding-left: 1.2rem; }
.findings { list-style: none; padding: 0; margin: 0; }
.findings > li { border-left: 5px solid var(--fault); background: var(--fault-panel);
  padding: .8rem 1rem; margin: 0 0 .8rem; }
.findings > li > :last-child { margin-bottom: 0; }
.findings .change { color: var(--accent); }
.words { margin: .5rem 0 .8rem; max-width: 46rem; }
.words dt { display: inline; font-weight: 600; } .words dt::after { content: ":"; }
.words dd { display: inline; margin: 0; }
.facts { margin: .6rem 0; } .facts dt { font-weight: 600; } .facts dd { margin: 0 0 .4rem; }
@media (min-width: 40rem) {
  .facts { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1.2rem; }
  .facts dd { margin: 0; } }
.pictures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(24rem, 100%), 1fr));
  gap: 1.6rem; align-items: start; }
figure { margin: 0; } figure.wide { grid-column: 1 / -1; max-width: 48rem; }
figure img { display: block; width: 100%; height: auto; background: #fff; border-radius: 4px; }
figcaption { margin: .4rem 0 0; max-width: 46rem; }
figure.curve { max-width: 36rem; } figure svg { display: block; width: 100%; height: auto; }
.curve text { fill: var(--muted); font-size: 11px; } .curve .name { fill: var(--text); }
.curve .grid { stroke: var(--line); } .curve .line { stroke: var(--accent); fill: none;
  stroke-width: 2; stroke-linejoin: round; }
.curve .dot { fill: var(--accent); } .curve .random { stroke: var(--muted); stroke-dasharray: 5 4; }
.table { overflow-x: auto; max-width: 100%; } .table:focus { outline: 2px solid var(--accent); }
table { border-collapse: collapse; font-size: .93rem; font-variant-numeric: tabular-nums;
  min-width: min(26rem, 100%); }
caption { text-align: left; color: var(--muted); font-size: .88rem; padding: 0 0 .3rem; }
th, td { text-align: left; vertical-align: top; padding: .25rem 1.2rem .25rem 0;
  border-bottom: 1px solid var(--line); }
tbody th { font-weight: 400; min-width: 9rem; } .number { text-align: right; white-space: nowrap; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; font-size: .87rem; }
code { font-size: .93em; overflow-wrap: anywhere; }
details { margin: .6rem 0; } summary { cursor: pointer; color: var(--accent); }
footer { border-top: 1px solid var(--line); margin-top: 2.5rem; padding-top: .8rem; }
"""
PAPER = """
  body { max-width: none; padding: 0; font-size: 11pt; }
  details::details-content { content-visibility: visible; height: auto; opacity: 1; }
  summary { list-style: none; color: var(--text); font-weight: 600; }
  .table { overflow: visible; } table { width: 100%; } .number { white-space: normal; }
  h2, h3, summary { break-after: avoid; } figure, .findings > li, tr { break-inside: avoid; }
  .pictures { grid-template-columns: 1fr 1fr; } figure.curve { max-width: 11cm; }
"""
STYLE = (
    f"{_variables(LIGHT, 'light')}\n"
    f"@media screen and (prefers-color-scheme: dark) {{ {_variables(DARK, 'dark')} }}\n"
    f"@media print {{ {_variables(ON_PAPER, 'light')} }}\n"
    f"{RULES}@media print {{{PAPER}}}\n"
)
