"""The frame of the page: markup helpers, style sheet, script. Nothing is loaded from anywhere else.

Two looks: the reader's own (light or dark, as the system prefers) and a red one for the telescope; the choice is
remembered where the browser allows it. The red look lays one red filter over everything, pictures included, so that no
blue or green light is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

STYLE = """
:root{--paper:#fbfaf7;--ink:#1d1f24;--soft:#646b76;--rule:#d9d6cf;--card:#fff;--a:#1f5fa8;--b:#b4600f;--bad:#b3261e}
@media(prefers-color-scheme:dark){:root{--paper:#101216;--ink:#e6e6e3;--soft:#9aa1ac;--rule:#2c3038;--card:#171a20;
--a:#7db4f0;--b:#f0a860;--bad:#ff8a80}}
:root.night{--paper:#000;--ink:#ddd;--soft:#999;--rule:#333;--card:#0a0a0a;--a:#fff;--b:#aaa;--bad:#fff}
.night::after{content:"";position:fixed;inset:0;background:#e00000;mix-blend-mode:multiply;pointer-events:none;z-index:9}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);
font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:1080px;margin:0 auto;padding:0 16px 64px}
header{display:flex;gap:12px;align-items:baseline;justify-content:space-between;flex-wrap:wrap;padding:20px 0 4px}
h1{font-size:1.7rem;line-height:1.2;margin:0;overflow-wrap:anywhere}
h2{font-size:1.25rem;margin:2.2rem 0 .4rem;padding-top:.6rem;border-top:1px solid var(--rule)}
h3{font-size:1.02rem;margin:1.4rem 0 .3rem}
p{margin:.5rem 0;max-width:72ch}.lead{font-size:1.08rem}.soft{color:var(--soft)}
button{font:inherit;color:inherit;background:var(--card);border:1px solid var(--rule);border-radius:8px;
padding:6px 12px;cursor:pointer}
nav{display:flex;gap:4px 14px;flex-wrap:wrap;font-size:.92rem;padding:4px 0 10px}a{color:var(--a)}
img{max-width:100%;height:auto;display:block;border-radius:6px}
figure{margin:.6rem 0;max-width:660px}figcaption{font-size:.88rem;color:var(--soft);margin-bottom:.2rem}
.grid2{display:grid;gap:8px 24px;grid-template-columns:repeat(auto-fit,minmax(min(100%,400px),1fr))}
.grid2>*{min-width:0}
.scroll{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:.95rem}
th,td{text-align:left;padding:4px 14px 4px 0;border-bottom:1px solid var(--rule);vertical-align:top}
th{font-weight:600}td.n,th.n{text-align:right}
.refused{display:grid;gap:12px;grid-template-columns:repeat(auto-fill,minmax(min(100%,300px),1fr));padding:0;list-style:none}
.refused li{background:var(--card);border:1px solid var(--rule);border-radius:8px;padding:10px;display:flex;gap:10px}
.refused img{width:96px;height:72px;object-fit:cover;flex:none}.refused b{overflow-wrap:anywhere}
.refused div{font-size:.9rem;min-width:0;overflow-wrap:anywhere}
.slide{position:relative;overflow:hidden;border-radius:6px;touch-action:pan-y;--cut:50%}
.slide img{width:100%}.slide .over{position:absolute;inset:0;clip-path:inset(0 calc(100% - var(--cut)) 0 0)}
.slide .bar{position:absolute;top:0;bottom:0;left:var(--cut);width:2px;background:#fff;pointer-events:none}
.slide input{position:absolute;inset:0;width:100%;height:100%;opacity:0;cursor:ew-resize;margin:0}
.slide input:focus-visible~.bar{width:4px}
.slide span{position:absolute;bottom:8px;padding:1px 8px;background:#000a;color:#fff;border-radius:6px;font-size:.82rem;
pointer-events:none}
.slide .l{left:8px}.slide .r{right:8px}
svg.chart{width:100%;height:auto;display:block;font:11.5px system-ui,sans-serif}svg text{fill:var(--soft)}
svg text.name{fill:var(--ink)}.grid{stroke:var(--rule);stroke-width:1;fill:none}
.mark{stroke:var(--soft);stroke-dasharray:2 3;fill:none}.line,.dashes{fill:none;stroke-width:1.8}
.dashes{stroke-dasharray:5 4}
polyline.a,path.a{stroke:var(--a)}polyline.b,path.b{stroke:var(--b)}polyline.bad,path.bad{stroke:var(--bad)}
circle.a{fill:var(--a)}circle.b{fill:var(--b)}circle.bad{fill:var(--bad)}path.cross{stroke-width:1.8;fill:none}
.key::before{content:"\\25CF\\00A0"}.key{margin-left:10px;white-space:nowrap}.key.line::before{content:"\\2014\\00A0"}
.key.dashes::before{content:"\\2013\\2009\\2013\\00A0"}.key.crosses::before{content:"\\00D7\\00A0"}
.key.a::before{color:var(--a)}.key.b::before{color:var(--b)}.key.bad::before{color:var(--bad)}
.map .cell{fill:var(--a);stroke:var(--rule)}.map .star{fill:none;stroke:var(--ink);stroke-width:1.6}
.map text{fill:var(--ink)}
.warn{border-left:4px solid var(--b);padding-left:10px}
"""

SCRIPT = """
(function(){var r=document.documentElement,b=document.getElementById('night');
function show(on){r.classList.toggle('night',on);b.setAttribute('aria-pressed',on);
b.textContent=on?'Day view':'Night view (red)'}
var saved=null;try{saved=localStorage.getItem('livestack-night')}catch(e){saved=null}show(saved==='1');
b.onclick=function(){var on=!r.classList.contains('night');show(on);
try{localStorage.setItem('livestack-night',on?'1':'0')}catch(e){saved=null}};
document.querySelectorAll('.slide input').forEach(function(i){
function move(){i.parentNode.style.setProperty('--cut',i.value+'%')}i.addEventListener('input',move);move()})})();
"""


def page(title: str, body: str) -> str:
    """The whole document; `title` is plain text, `body` markup."""
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\';img-src data:;'
        "style-src 'unsafe-inline';script-src 'unsafe-inline'\">"
        f'<meta name="color-scheme" content="light dark"><title>{escape(title)}</title><style>{STYLE}</style></head>'
        f"<body><main>{body}</main><script>{SCRIPT}</script></body></html>\n"
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]], numbers_from: int = 1) -> str:
    """A table of plain texts; columns from `numbers_from` on are set to the right."""

    def cells(row: Sequence[str], tag: str) -> str:
        return "".join(
            f"<{tag}{' class=n' if i >= numbers_from else ''}>{escape(text)}</{tag}>" for i, text in enumerate(row)
        )

    top = f"<thead><tr>{cells(head, 'th')}</tr></thead>" if head else ""
    body = "".join(f"<tr>{cells(row, 'td')}</tr>" for row in rows)
    return f'<div class="scroll"><table>{top}<tbody>{body}</tbody></table></div>'


def facts(rows: Sequence[tuple[str, str]]) -> str:
    """Name and value, a row each; empty values are left out."""
    kept = [row for row in rows if row[1]]
    body = "".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in kept)
    return f'<div class="scroll"><table><tbody>{body}</tbody></table></div>'


def picture(address: str, words: str, caption: str = "") -> str:
    """An image with its text alternative."""
    shown = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f'<figure>{shown}<img src="{address}" alt="{escape(words)}"></figure>'


def slider(left: str, right: str, left_words: str, right_words: str) -> str:
    """Two pictures of one size, one over the other, with a cut that follows the finger."""
    return (
        f'<div class="slide"><img src="{right}" alt="{escape(right_words)}">'
        f'<img class="over" src="{left}" alt="{escape(left_words)}">'
        f'<input type="range" min="0" max="100" step="0.5" value="50" '
        f'aria-label="{escape(left_words)} against {escape(right_words)}">'
        f'<i class="bar"></i><span class="l">{escape(left_words)}</span><span '
        f'class="r">{escape(right_words)}</span></div>'
    )
