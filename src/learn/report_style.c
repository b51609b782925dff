/* The page's head: policy and style.  No script, no font, no image, no request; light and dark as the reader's system has
 * it; colours that stay apart for the colour-blind (after Okabe and Ito 2008). */
#include "report.h"

/* The policy is the second wall behind the escaping: even markup that got through could neither run nor fetch. */
static const char HEAD[] =
    "<!doctype html>\n<html lang=en>\n<head>\n<meta charset=utf-8>\n"
    "<meta http-equiv=Content-Security-Policy content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
    "form-action 'none'\">\n"
    "<meta name=viewport content=\"width=device-width, initial-scale=1\">\n<meta name=color-scheme content=\"light dark\">\n"
    "<link rel=icon href=\"data:,\">\n<title>";

static const char COLORS[] =
    ":root{color-scheme:light dark;--bg:#faf9f6;--card:#fff;--ink:#1c1e21;--dim:#63686e;--rule:#e3e0d9;--faint:#eeece6;"
    "--k0:#0072b2;--k1:#c44e00;--k2:#00805d;--k3:#a8507f;--k4:#8f6200;--k5:#50575e}\n"
    "@media(prefers-color-scheme:dark){:root{--bg:#131518;--card:#1b1e22;--ink:#e7e6e2;--dim:#9aa0a7;--rule:#32373d;--faint:#262a2f;"
    "--k0:#5cb8ec;--k1:#f2894a;--k2:#45c79c;--k3:#e59bc8;--k4:#e8b94a;--k5:#b9bfc5}}\n";

static const char TEXT[] =
    "*{box-sizing:border-box}\n"
    "html{-webkit-text-size-adjust:100%;text-size-adjust:100%}\n"
    "body{margin:0;background:var(--bg);color:var(--ink);font:16px/1.5 system-ui,-apple-system,\"Segoe UI\",Roboto,\"Liberation Sans\",sans-serif;"
    "font-variant-numeric:tabular-nums}\n"
    "main{max-width:1120px;margin:0 auto;padding:clamp(16px,4vw,44px) clamp(14px,3vw,32px) 60px}\n"
    "h1{font-size:clamp(1.55rem,4.5vw,2.3rem);line-height:1.18;margin:0 0 .3em;letter-spacing:-.015em;overflow-wrap:anywhere;text-wrap:balance}\n"
    "h2{font-size:1.35rem;margin:2.6em 0 .3em;letter-spacing:-.01em}\n"
    "h3{font-size:1rem;margin:0;overflow-wrap:anywhere}\nh3.group{margin:1.5em 0 .6em}\n"
    "p{margin:.4em 0}\nsmall,.dim{color:var(--dim);font-weight:400}\nsmall{font-size:.8em}\n"
    ".lead{color:var(--dim);max-width:74ch;margin:.2em 0 1em;font-size:.95rem}\n"
    "a{color:var(--k0)}\nnav{margin:1.2em 0 0;font-size:.92rem}\nnav a{margin-right:1.1em;white-space:nowrap;text-underline-offset:3px}\n"
    "code,pre{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,\"DejaVu Sans Mono\",monospace;font-size:.86rem}\n"
    "pre{margin:0;white-space:pre-wrap;overflow-wrap:anywhere}\n"
    ".card,figure.chart,.trace,pre.box{background:var(--card);border:1px solid var(--rule);border-radius:10px}\n"
    "pre.box{padding:14px 16px;margin:0 0 .8em;max-height:34em;overflow:auto}\n"
    "footer{margin-top:3em;padding-top:1em;border-top:1px solid var(--rule);color:var(--dim);font-size:.88rem}\n";

static const char SUMMARY[] =
    ".state{display:inline-block;border:1px solid var(--rule);border-radius:99px;padding:.1em .8em;font-size:.88rem;background:var(--card)}\n"
    ".state::before{content:\"\";display:inline-block;width:.55em;height:.55em;border-radius:50%;background:var(--k2);margin-right:.5em}\n"
    ".state.going::before{background:var(--k4)}\n"
    ".headline{padding:clamp(14px,2.5vw,26px);margin:1.4em 0}\n"
    ".big{font-size:clamp(2rem,8vw,3.4rem);line-height:1.1;margin:0 0 .15em;letter-spacing:-.02em}\n"
    ".big span{color:var(--k0)}.big b{color:var(--k1)}.big i{font-style:normal;color:var(--dim);font-weight:300}\n"
    ".headline>p{max-width:74ch}\n"
    ".tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(148px,1fr));gap:14px 22px;margin:1.3em 0 0;padding:0}\n"
    ".tiles div{border-top:1px solid var(--rule);padding-top:.5em}\n"
    ".tiles .wide{grid-column:span 2}@media(max-width:380px){.tiles .wide{grid-column:auto}}.tiles dt{color:var(--dim);font-size:.86rem}.tiles dd{margin:0;font-size:1.06rem;overflow-wrap:anywhere}\n"
    ".warn{border-left:3px solid var(--k4);padding-left:.8em}\n";

static const char TABLE[] =
    ".scroll{overflow-x:auto;border:1px solid var(--rule);border-radius:10px;background:var(--card)}\n"
    "table{border-collapse:collapse;width:100%;font-size:.88rem}\n"
    "th,td{padding:.5em .6em;text-align:right;vertical-align:top;font-weight:400}\n"
    "thead th{color:var(--dim);font-size:.82rem;line-height:1.25;vertical-align:bottom;border-bottom:1px solid var(--rule)}\n"
    "th:first-child,th.left,td.left{text-align:left}td.time{white-space:nowrap;min-width:6.5em}\n"
    "#models th[scope=row],#models thead th:first-child{position:sticky;left:0;background:var(--card);min-width:7.5em;max-width:13em;"
    "overflow-wrap:anywhere;box-shadow:1px 0 0 var(--rule)}\n"
    "td small,th small{display:block;white-space:nowrap}\nth[scope=row] small{white-space:normal}\n"
    "tbody tr+tr td,tbody tr+tr th{border-top:1px solid var(--faint)}\n"
    "tr.task th{background:var(--faint);text-align:left;font-weight:600;padding:.35em .6em}\ntr.task span{position:sticky;left:.6em}\n"
    "td.acc{min-width:124px}\nsvg.mark{display:block;width:104px;height:12px;margin:.25em 0 0 auto}\n"
    ".bar{display:block;height:4px;border-radius:2px;background:var(--k0);margin-top:.4em;min-width:2px}\n"
    ".words{margin-top:1em}.words summary{cursor:pointer;color:var(--dim)}\n"
    ".words dl{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(300px,100%),1fr));gap:10px 28px;margin:.8em 0 0}\n"
    ".words dt{font-weight:600;font-size:.92rem}.words dd{margin:0;color:var(--dim);font-size:.9rem}\n";

static const char CHART[] =
    ".charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(310px,100%),1fr));gap:14px}\n"
    ".charts.two{grid-template-columns:repeat(auto-fill,minmax(min(430px,100%),1fr))}\n"
    "figure.chart{margin:0;padding:12px 14px 10px;display:flex;flex-direction:column;min-width:0}\n"
    "figure.chart svg{display:block;width:100%;height:auto;margin:4px 0}\n"
    "figcaption{color:var(--dim);font-size:.84rem;line-height:1.4}\nfigcaption em{color:var(--ink)}\n"
    "figure.none{align-self:start}\n"
    ".sum{font-size:.92rem;margin:.1em 0;color:var(--dim)}.sum b{color:var(--ink);font-weight:600}.sum span{margin-right:1em;white-space:nowrap}\n"
    ".key{display:inline-block;width:1.1em;border-top:2px solid;vertical-align:.28em;margin-right:.35em}.key.dash{border-top-style:dashed}\n"
    "text{font:11px system-ui,-apple-system,\"Segoe UI\",Roboto,\"Liberation Sans\",sans-serif;font-variant-numeric:tabular-nums}\n"
    ".large text{font-size:12.5px}@media(max-width:520px){.large text{font-size:15px}}\n"
    ".tick,.name{fill:var(--dim)}.grid{stroke:var(--faint)}.axis{stroke:var(--rule);fill:none}\n"
    ".k0{color:var(--k0)}.k1{color:var(--k1)}.k2{color:var(--k2)}.k3{color:var(--k3)}.k4{color:var(--k4)}.k5{color:var(--k5)}\n"
    ".line{fill:none;stroke:currentColor;stroke-width:1.5;stroke-linejoin:round;stroke-linecap:round}\n"
    ".line.thin{stroke-width:.8;opacity:.32}.line.dash{stroke-dasharray:5 4}\n"
    ".band{fill:currentColor;opacity:.14}.dot{fill:var(--card);stroke:currentColor;stroke-width:1.4}.full{fill:currentColor}\n"
    ".whisker{stroke:currentColor;stroke-width:2;stroke-linecap:round}.mark{stroke:currentColor;stroke-width:2}svg.mark{stroke:none}.end{fill:currentColor;stroke:var(--card);stroke-width:3;paint-order:stroke;stroke-linejoin:round}\n";

static const char TRACES[] =
    "article{margin:0 0 20px}article>h3{margin:0 0 .5em;white-space:pre-wrap}\n"
    ".pair{display:grid;grid-template-columns:1fr 1fr;gap:14px}.pair.single{grid-template-columns:1fr}\n"
    "@media(max-width:700px){.pair{grid-template-columns:1fr}}\n"
    ".trace{padding:12px 14px;min-width:0}.trace h3{font-size:.92rem;margin-bottom:.4em}\n"
    ".verdict{margin:0 0 .5em;font-size:.88rem}.verdict span:first-child{color:var(--dim);margin-right:.4em}\n"
    ".right{color:var(--k2)}.wrong{color:var(--k1)}\n"
    ".thinking{color:var(--dim);max-height:19em;overflow:auto}\n.answer{font-weight:700;margin-top:.6em;padding-top:.6em;border-top:1px solid var(--faint)}\n"
    "@media print{pre.box,.thinking{max-height:none}figure.chart,article{break-inside:avoid}}\n";

void page_head(Buf *b, const char *title)
{
    buf_str(b, HEAD);
    html_str(b, title);
    buf_str(b, "</title>\n<style>\n");
    buf_str(b, COLORS);
    buf_str(b, TEXT);
    buf_str(b, SUMMARY);
    buf_str(b, TABLE);
    buf_str(b, CHART);
    buf_str(b, TRACES);
    buf_str(b, "</style>\n</head>\n<body>\n<main>\n");
}
