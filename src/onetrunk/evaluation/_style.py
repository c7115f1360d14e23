"""The report's style sheet: inline, no fonts or pictures from elsewhere; light and dark, phone and desk."""

CSS = """
:root { color-scheme: light dark;
  --page: #f6f5f1; --card: #ffffff; --ink: #23272e; --soft: #5d6570; --line: #e2e1db; --me: #0072b2;
  --them: #8a8f98;
  --good: #00785a; --bad: #b64a00; --wash: #eef4f8; }
@media (prefers-color-scheme: dark) { :root {
  --page: #0f1115; --card: #171a1f; --ink: #e6e8eb; --soft: #a2a9b3; --line: #2b3038; --me: #5ab4e8;
  --them: #8a8f98;
  --good: #3cc79b; --bad: #f0884a; --wash: #1b2733; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--page); color: var(--ink); font: 17px/1.6 system-ui, -apple-system,
  "Segoe UI",
  Roboto, "Noto Sans", "PingFang SC", "Microsoft YaHei", "Noto Sans CJK SC", sans-serif;
  overflow-wrap: anywhere; }
main { max-width: 54rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1, h2, .number { font-family: ui-serif, Charter, "Iowan Old Style", Georgia, "Noto Serif", "Songti SC",
  "Noto Serif CJK SC", serif; font-weight: 600; line-height: 1.2; }
h1 { font-size: 2.3rem; margin: .1em 0 .2em; }
h2 { font-size: 1.55rem; margin: 0 0 .4em; }
h2 small { font-size: 1rem; font-weight: 400; color: var(--soft); font-family: system-ui, sans-serif; }
h3 { font-size: 1.05rem; margin: 2.2rem 0 .6rem; }
p { margin: .5rem 0; }
a { color: var(--me); }
.eyebrow, .meta, figcaption, small, .note { color: var(--soft); }
.eyebrow { font-size: .8rem; letter-spacing: .09em; text-transform: uppercase; margin: 0; }
.meta, figcaption, .note { font-size: .88rem; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 14px; padding: 1.8rem 1.7rem;
  margin: 1.6rem 0; }
nav { margin: 1rem 0 0; display: flex; flex-wrap: wrap; gap: .4rem 1.2rem; }
.hero { display: flex; flex-wrap: wrap; align-items: baseline; gap: .1rem 1rem; }
.number { font-size: 3.6rem; color: var(--me); font-variant-numeric: lining-nums; }
.lead { font-size: 1.1rem; max-width: 40rem; }
.forest { margin: 1.4rem 0 .4rem; font-variant-numeric: tabular-nums; }
.forest > div { display: grid; grid-template-columns: 11rem 1fr 14rem; gap: 0 1rem; align-items: center;
  padding: .3rem 0; }
.track { position: relative; height: 1.1rem; }
.track i { position: absolute; top: 50%; transform: translateY(-50%); background: var(--them); }
.forest > :not(.axis) .track { background: linear-gradient(var(--line),
  var(--line)) center / 100% 1px no-repeat; }
.track .bar { height: .55rem; border-radius: .3rem; opacity: .45; min-width: .3rem; }
.track .dot { width: .5rem; height: .9rem; margin-left: -.25rem; border-radius: .25rem; }
.me .track i { background: var(--me); }
.me .who, .me .value { font-weight: 650; }
.value small { font-weight: 400; margin-left: .5em; white-space: nowrap; }
.axis .track { height: 1.6rem; border-top: 1px solid var(--line); }
.axis .track span { position: absolute; transform: translateX(-50%); font-size: .78rem; color: var(--soft);
  padding-top: .15rem; white-space: nowrap; }
.axis .track span::before { content: ""; position: absolute; left: 50%; top: -1px; height: .25rem;
  border-left: 1px solid var(--them); }
figure { margin: 1rem 0; }
figure img { display: block; width: 100%; max-width: 40rem; height: auto; }
.two { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(20rem, 100%), 1fr)); gap: 0 1.2rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .93rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .42rem .9rem .42rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top; }
th { font-weight: 600; font-size: .84rem; color: var(--soft); }
tbody th { color: var(--ink); font-size: inherit; font-weight: 500; min-width: 7.5rem; }
.wide td:not(.num) { min-width: 5.5rem; }
.num { text-align: right; white-space: nowrap; }
.mine { color: var(--me); font-weight: 600; }
.gauge { display: block; width: 7rem; height: .45rem; margin-top: .55rem; border-radius: .25rem;
  background: var(--line); }
.gauge b { display: block; height: 100%; border-radius: inherit; background: var(--me); }
.samples { display: grid; grid-template-columns: repeat(auto-fill, minmax(13.5rem, 1fr)); gap: .9rem; }
.tight .sample { display: flex; gap: .6rem 1rem; align-items: center; }
  .tight dl { margin: 0; }
.tight .said { display: block; border: 0; padding: 0; min-width: 0; } .tight .said small { display: block; }
  .tight .said span { display: block;
  line-height: 1.35; }
.tight .key:not(:first-child) { margin-top: .4rem; } .tight .said .got,
  .tight .key + span { font-size: 1.15rem; }
.sample dl.pairs { display: grid; grid-template-columns: minmax(0, auto) minmax(0, 1fr); gap: 0 .8rem;
  align-items: baseline; }
.sample .pairs dt { margin: 0; }
.sample { border: 1px solid var(--line); border-radius: 10px; padding: .9rem 1rem; font-size: .93rem;
  line-height: 1.45; }
.sample dl { margin: 0 0 .6rem; }
.sample dt { font-size: .76rem; color: var(--soft); margin-top: .3rem; }
.sample dd { margin: 0; white-space: pre-line; max-height: 9em; overflow: auto; }
.sample dd.shot { max-height: none; }
.shot img { display: block; width: 5.5rem; height: 5.5rem; object-fit: contain; image-rendering: pixelated;
  border-radius: 6px; background: var(--page); }
.shot:has(audio) img { width: 14rem; } .shot audio { display: block; width: 14rem; height: 2.2rem; margin-top: .3rem; }
.samples.large { grid-template-columns: repeat(auto-fill, minmax(min(22rem, 100%), 1fr)); }
.large .said .shot img { width: 100%; height: auto; image-rendering: auto; }
.said { border-top: 1px solid var(--line); padding-top: .55rem; display: grid;
  grid-template-columns: auto 1fr;
  gap: .15rem .7rem; align-items: baseline; }
.said .key { color: var(--soft); font-size: .82rem; }
.said .got { font-weight: 650; } .said small { font-weight: 400; font-size: .82rem; }
.right .got { color: var(--good); } .wrong .got { color: var(--bad); }
.chips { display: flex; flex-wrap: wrap; gap: .4rem; padding: 0; margin: .4rem 0; list-style: none; }
.chips li { background: var(--wash); border-radius: 1rem; padding: .1rem .75rem; font-size: .88rem; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(12rem, 1fr)); gap: .9rem 1.5rem;
  margin: 0; }
.facts dt { font-size: .8rem; color: var(--soft); } .facts dd { margin: 0; font-weight: 500; }
@media (max-width: 42rem) {
  body { font-size: 16px; } main { padding: 1.4rem .8rem 3rem; } h1 { font-size: 1.8rem; }
  section { padding: 1.3rem 1.1rem; } .number { font-size: 2.9rem; }
  .forest > div { grid-template-columns: 1fr auto; } .forest .track { grid-column: 1 / -1; grid-row: 2; }
  .gauge { display: none; }
  .axis .track span:first-child { transform: none; }
  .axis .track span:last-child { transform: translateX(-100%); }
  .samples { grid-template-columns: repeat(auto-fill, minmax(12.5rem, 1fr)); } }
@media print { body { background: #fff; } section { break-inside: avoid-page; border: 0; padding: 0; } }
"""
