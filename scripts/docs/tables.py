"""Turns what `vmm … --json` printed into the pages of docs/results/.

usage: tables.py matrix QUICK MATRIX
       tables.py closure CLOSURE
       tables.py native-vs-pv CAMPAIGN COMPARE COMPARE_USER
       tables.py necessity NECESSITY…
       tables.py hosts REPORT…
       tables.py xen RESULT…
       tables.py linux SWEEPS…

scripts/docs/results calls it. The same documents give the same bytes, the date apart.
"""

import sys

from kernels import linux, xen
from markdown import head, number, read, rule, table, wrapped

WIDE = 8  # scenarios in one table


def name(row):
    return row["scheme"] + (" (pv)" if row["mode"] == "pv" else "")


def grid(rows, text):
    """Schemes down, scenarios across; `text` says what stands in a cell."""
    schemes, scenarios, cells = {}, {}, {}
    for row in rows:
        schemes[name(row)] = scenarios[row["scenario"]] = None
        cells[name(row), row["scenario"]] = text(row)
    scenarios = list(scenarios)
    for first in range(0, len(scenarios), WIDE):
        part = scenarios[first : first + WIDE]
        yield from table([""] + part, ([s] + [cells.get((s, c), "") for c in part] for s in schemes))


def unexpected(document):
    """Rows that came to another verdict than the campaign file expects."""
    wrong = [r for r in document["rows"] if r["as_expected"] is False]
    if wrong:
        yield "**Not as expected:**"
        yield ""
        yield from table(
            ["scheme", "scenario", "expected", "found"],
            ([name(r), r["scenario"], r["expected"], rule(r)] for r in wrong),
        )


def summary(document):
    s = document["summary"]
    lost = f", {s['host_limit']} that this host cannot show" if s["host_limit"] else ""
    yield f"{s['expected']} rows as expected, {s['unexpected']} not{lost}; {number(s['cases'])} cases, of which"
    yield f"{number(s['rechecked'])} were run again in another gear, with {s['disagreed']} disagreements."
    yield ""


def covered(rows):
    """I20, over all rows."""
    total = {k: sum(r["coverage"][k] for r in rows if r["coverage"]) for k in ("boundaries", "injected", "latched", "open")}
    yield f"Coverage (I20): {number(total['boundaries'])} boundaries by context, of which {number(total['injected'])} had an NMI"
    yield f"injected, at {number(total['latched'])} an NMI would only have been latched, and {number(total['open'])} are open."
    yield ""


def matrix(quick, pairs):
    yield from head("Every scheme in every scenario", [quick, pairs], "matrix")
    yield "A cell says `pass`, or the rule that the failure with the shortest schedule breaks; the rules are listed in"
    yield "[words.md](../guide/words.md). [failing-cells.md](../findings/failing-cells.md) explains each failure."
    yield "`host-limit` means that this host cannot run the case."
    yield ""
    for title, document, campaign in (
        ("One NMI at every boundary", quick, "quick"),
        ("Two NMIs", pairs, "matrix"),
    ):
        yield f"## {title}"
        yield ""
        yield f"`vmm campaign scripts/campaigns/{campaign}.toml`. A pass is a pass of these schedules, not a proof."
        yield ""
        yield from grid(document["rows"], rule)
        yield from unexpected(document)
        yield from summary(document)
        yield from covered(document["rows"])


def closure(closure):
    yield from head("Every number, timing and nesting of NMIs", [closure], "closure")
    yield "`vmm campaign scripts/campaigns/closure.toml`. A number is that of the states of a search that closed with a"
    yield "pass: a proof for this image on this host ([explorer.md](../internals/explorer.md)). Other cells say which rule the"
    yield "search found broken first, or `host-limit` if this host cannot run the scenario or the search hit its limit."
    yield "[failing-cells.md](../findings/failing-cells.md) explains them."
    yield ""
    yield from grid(closure["rows"], lambda r: number(r["cases"]) if r["verdict"] == "pass" else rule(r))
    yield from unexpected(closure)
    yield from summary(closure)
    yield from covered(closure["rows"])


def necessity(*documents):
    """Each instruction of some entry paths, with the rule that breaks without it."""
    yield from head("What each instruction is needed for", documents, "necessity")
    yield (
        "Each instruction of a scheme's code is replaced by NOPs in turn, and the scenarios in which the path as it "
        "is is proved are searched again, the quickest first, each for a few thousand states and then to its end, "
        "until one breaks. The rules are listed in [words.md](../guide/words.md), and "
        "[necessity.md](../guide/necessity.md) says how to read this. What is *not shown to be needed* is "
        "superfluous, or these scenarios have a hole: [findings](../findings/necessity.md) says which."
    )
    for d in documents:
        yield ""
        yield from needed(d, "states")


def necessity_of_kernel(*documents):
    """The same of real kernels, whose cases are run again."""
    yield from head("What each instruction of a real kernel's NMI entry is needed for", documents, "necessity-kernels")
    yield (
        "Each instruction of the entry code that an NMI comes to, as it is in live memory, is replaced by NOPs in "
        "turn, and every case that the kernel as it is must pass, and does, is run again, until one fails. The rules "
        "are listed in [words.md](../guide/words.md), and [necessity.md](../guide/necessity.md) says how to read "
        "this. What is *not shown to be needed* is superfluous, or these cases have a hole: "
        "[findings](../findings/necessity.md) says which."
    )
    for d in documents:
        yield ""
        yield from needed(d, "cases")


def needed(d, unit):
    """One listing."""
    idle = [f for f in d["findings"] if not f["needs"] and not f["unknown"]]
    unknown = [f for f in d["findings"] if not f["needs"] and f["unknown"]]
    yield f"## `{d['scheme']}`"
    yield ""
    yield f"{len(d['findings'])} instructions, {len(idle)} not shown to be needed, {len(unknown)} not known."
    asked = [f"`{s['scenario']}` ({number(s['states'])} {unit})" for s in d["scenarios"] if not s["left_out"]]
    yield f"Asked: {', '.join(asked)}."
    for s in d["scenarios"]:
        if s["left_out"]:
            yield f"Left out: `{s['scenario']}`: {s['left_out']}."
    yield ""
    rows = []
    for f in d["findings"]:
        need = f["needs"][0] if f["needs"] else None
        if need:
            why = f"{need['rule'] or 'does not run'} | `{need['scenario']}` | `{need['schedule']}`"
        else:
            why = "? | | not known" if f["unknown"] else "- | | not shown to be needed"
        rows.append((f"`{f['place']}`", f"`{f['instruction']}`", *why.split(" | ")))
    yield from table(("place", "instruction", "upholds", "scenario", "shortest schedule without it"), rows)


def span(range_):
    """`{min, max}` in words."""
    low, high = range_["min"], range_["max"]
    return str(low) if low == high else f"{low}–{high}"


def first(c):
    """What a first NMI costs, or why there is no figure."""
    if c["first"]:
        return span(c["first"])
    return f"broken ({c['breaks']})" if c["breaks"] else "none tried"


def nested(c, range_):
    """A figure of nested NMIs, or why there is none; in the words of vmm's own table."""
    if range_:
        return span(range_)
    if c["nested_cases"] == 0:
        return "never"
    all_broken = c["nested_broken"] == c["nested_cases"]
    return f"broken ({c['nested_breaks']})" if all_broken else "none"


def verdict(v):
    if v is None:
        return ""
    return f"violation({v['invariant']})" if v["invariant"] else v["verdict"]


def costs(rows):
    """One scenario's table of `vmm compare`."""
    titles = ["scheme", "mode", "first", "nested", "repeated", "blocked", "exits", "stack", "per-CPU", "points", "every pattern"]

    def line(row):
        c = row["counts"]
        exits = f"({c['exits']})" if row["scheme"] == "fred" else c["exits"]
        yield from [row["scheme"], row["mode"], first(c), nested(c, c["nested"]), nested(c, c["repeated"])]
        yield from [c["blocked"], exits, c["stack"], row["per_cpu"], verdict(row["points"]), verdict(row["search"])]

    yield from table(titles, (list(line(r)) for r in rows))


def native_vs_pv(campaign, compare, user):
    yield from head("Native against paravirtual: the figures", [campaign, compare, user], "native-vs-pv")
    yield "What follows from them is in [native-vs-pv.md](../findings/native-vs-pv.md); how `vmm compare` counts, in"
    yield "[compare.md](../guide/compare.md)."
    yield ""
    yield "## Does it survive?"
    yield ""
    yield "`vmm campaign scripts/campaigns/native-vs-pv.toml`: every number, timing and nesting of NMIs. A pass is of a"
    yield "search that closed."
    yield ""
    yield from table(
        ["scheme", "scenario", "mode", "states", "verdict", "shortest failing schedule"],
        (
            [r["scheme"], r["scenario"], r["mode"], number(r["cases"])]
            + [verdict(r) if r["verdict"] == "violation" else r["verdict"], f"`{r['schedule']}`" if r["schedule"] else ""]
            for r in campaign["rows"]
        ),
    )
    yield from unexpected(campaign)
    yield from summary(campaign)
    for document in (compare, user):
        for scenario in dict.fromkeys(r["scenario"] for r in document["rows"]):
            yield f"## What it costs: `{scenario}`"
            yield ""
            yield "Counted on stepped runs, so the same on every host."
            yield ""
            yield from costs([r for r in document["rows"] if r["scenario"] == scenario])
    timings = compare.get("timings") or []
    if timings:
        yield "## What it takes on this host"
        yield ""
        yield f"Medians over {timings[0]['nmis']} NMIs for each scheme, all schemes in turn; hypercalls by"
        yield f"{'port I/O' if compare['transport'] == 'port' else 'KVM’s Xen interface'}. Each time includes four exits of the lab's own. The ratio is to `naive`."
        yield ""
        scenarios = list(dict.fromkeys(t["scenario"] for t in timings))
        by = {(t["scheme"], t["scenario"]): t for t in timings}
        titles = ["scheme"] + [f"{s}, {what}" for s in scenarios for what in ("µs", "ratio")]
        rows = []
        for scheme in dict.fromkeys(t["scheme"] for t in timings):
            row = [scheme + (" (played)" if scheme == "fred" else "")]
            for s in scenarios:
                t = by.get((scheme, s))
                row += [f"{t['median_ns'] / 1000:.1f}", f"{t['ratio']:.2f}" if t["ratio"] else ""] if t else ["", ""]
            rows.append(row)
        yield from table(titles, rows)


def hosts(*reports):
    yield from head("What KVM does with NMIs", reports, "hosts")
    yield "One row is one property that a verdict or a workaround of the lab relies on (`vmm probe`). ✗ marks an answer that"
    yield "is not the architecture's. [hosts.md](../guide/hosts.md) explains how to read it, and"
    yield "[findings/hosts.md](../findings/hosts.md) explains the differences."
    yield ""
    rows = {}
    for column, report in enumerate(reports):
        for row in report["rows"]:
            answer = row["answer"] if row["answer"] is not None else row["status"]
            entry = rows.setdefault(row["id"], (row, ["" for _ in reports]))
            entry[1][column] = ("✗ " if row["status"] == "differs" else "") + str(answer)
    yield from table(
        ["probe", "architecture"] + [f"{r['host']['kvm']}, {r['host']['fingerprint']}" for r in reports],
        ([f"`{i}`", ", or ".join(row["right"]) or "any"] + answers for i, (row, answers) in rows.items()),
    )
    yield "## What each row measures"
    yield ""
    for i, (row, _) in rows.items():
        yield f"- `{i}`: {row['property']}."
    yield ""


PAGES = {
    "matrix": matrix,
    "closure": closure,
    "native-vs-pv": native_vs_pv,
    "hosts": hosts,
    "necessity": necessity,
    "necessity-of-kernel": necessity_of_kernel,
    "linux": linux,
    "xen": xen,
}


def main():
    if len(sys.argv) < 3 or sys.argv[1] not in PAGES:
        sys.exit(__doc__)
    lines = wrapped(PAGES[sys.argv[1]](*map(read, sys.argv[2:])))
    print("\n".join(lines).rstrip("\n"))


main()
