"""The pages of docs/results about real kernels: Xen and Linux."""

import re

from markdown import head, number, rule, table


def xen(*documents):
    """The real Xen beside the lab's own schemes."""
    played = [d for d in documents if "kernel" not in d]
    cases = [d for d in documents if "case" in d]
    costed = [d for d in documents if "stretches" in d]
    swept = [d for d in documents if "sweeps" in d]
    yield from head("The real Xen beside the played schemes", documents, "xen")
    kernels = dict.fromkeys((d["kernel"]["version"], d["kernel"]["image"]) for d in documents if "kernel" in d)
    for version, image in kernels:
        yield f"- {version} ({image})"
    yield ""
    yield (
        "[xen.md](../guide/xen.md) describes what runs, what is judged, and what the sites are. The lab's own "
        "schemes play Xen's side themselves: `xen-always` unmasks NMIs at every return by its iret hypercall, "
        "`xen-flag` only where the guest asks for it."
    )
    yield ""
    yield "## The same schedule: a body that faults, then #2"
    yield ""
    yield (
        "NMI #1's body takes a fault, whose handler returns by the iret hypercall; #2 has arrived meanwhile. "
        "`do_iret` of the real Xen unmasks NMIs on every return: #2 is delivered amid the body (I5), as in "
        "`xen-always`. In `xen-flag` no pattern of NMIs does that, which a search of all of them shows."
    )
    yield ""
    rows = []
    for d in played:
        v = next(iter(d["violations"]), None)
        said = f"{v['invariant']}: {v['detail']}" if v else d["verdict"] + (", closed" if d["closed"] else "")
        schedule = f"`{v['schedule']}`" if v else "every one"
        rows.append((f"`{d['scheme']}`, played", "vmalloc-fault", schedule, said, ""))
    for d in cases:
        c, r = d["case"], d["repeats"]
        body = re.search(r"--body (\S+)", d["kernel"]["cmdline"])[1]
        which = "patched" if "/patched/" in d["kernel"]["file"] else "as Debian has it"
        said = f"{c['invariant']}: {c['detail']}" if c["invariant"] else c["verdict"]
        rows.append((f"Xen, {which}", body, f"`{c['schedule']}`", said, f"{r['differing']} of {r['of']}"))
    yield from table(("who", "body", "schedule", "verdict", "repeats that differ"), rows)
    yield (
        "A repeat differs where its verdict, a count, a byte of RAM or a register is another. `ud-flag` is the "
        "body `ud` whose fault's handler returns with VGCF_nmi_masked, the flag that "
        "`scripts/xen/iret-flag.patch` gives `do_iret`."
    )
    yield ""
    yield "## Every boundary"
    yield ""
    yield (
        "#2 at each boundary of #1's path: as NMIs are there, and after something else (an SMI, a machine "
        "check) unblocked them. Where the latter kills Xen, it is the hardware's frame on the IST that is "
        "overwritten, and Xen does not claim to survive that: it runs on the IST until it has copied the frame, "
        "and for good where it has interrupted itself."
    )
    yield ""
    rows = []
    for d in swept:
        body = re.search(r"--body (\S+)", d["kernel"]["cmdline"])[1]
        for s in d["sweeps"]:
            died = [r for r in s["rows"] if r["verdict"] != "pass"]
            place = lambda r: r["schedule"].split("@")[-1]
            where = f"`{place(died[0])}` … `{place(died[-1])}`" if died else ""
            ms = f"{1000 * s['seconds'] / s['cases']:.0f}" if s.get("seconds") and s["cases"] else ""
            once = sum(r["verdict"] == "pass" and r["handled"] == 1 for r in s["rows"])
            rows.append((f"`{s['site']}`", body, s["nmis"], s["cases"], once, len(died), s["defects"], where, ms))
        for e in d.get("errors", []):
            rows.append((f"`{e['site']}`", body, e["why"], "", "", "", "", "", ""))
    yield from table(
        ("site", "body", "#2 finds NMIs", "cases", "merged", "fail", "defects", "first and last that fail", "ms a case"), rows
    )
    yield (
        "*merged*: both NMIs fell together before the first was delivered. *defects* are failures that the "
        "architecture does not explain: nothing from outside had unblocked NMIs, or no frame was still to be read."
    )
    yield ""
    for d in swept:
        for s in d["sweeps"]:
            kinds = {}
            for r in s["rows"]:
                if r["verdict"] != "pass":
                    # Which functions of a loop were seen differs from case to case.
                    why = re.sub(r"(, but goes round) in .*", r"\1", r["detail"] or "")
                    why = re.sub(r"0x[0-9a-f]+", "0x…", why)[:110]
                    key = (r["invariant"] or r["verdict"], why, r["expected"], r.get("because", ""))
                    kinds[key] = kinds.get(key, 0) + 1
            if kinds:
                body = re.search(r"--body (\S+)", d["kernel"]["cmdline"])[1]
                yield f"Failures at `{s['site']}`, body {body}, NMIs {s['nmis']}:"
                yield ""
                many = sorted(kinds.items(), key=lambda kind: -kind[1])
                yield from table(("cases", "breaks", "what was seen", "expected"), ((n, k[0], k[1], f"{k[2]}: {k[3]}") for k, n in many[:8]))
    yield "## What an NMI costs"
    yield ""
    yield (
        "Instructions from the delivery until the interrupted code goes on; a stretch lies between two changes of "
        "privilege. The last stretch of Xen's is HYPERVISOR_iret."
    )
    yield ""
    rows = []
    for d in costed:
        body = re.search(r"--body (\S+)", d["kernel"]["cmdline"])[1]
        for s in d["stretches"]:
            who = "guest" if s["user"] else "Xen"
            rows.append((f"`{d['site']}`", body, who, f"`{s['from']}` … `{s['to']}`", s["instructions"], s["blocked"]))
        rows.append((f"`{d['site']}`", body, "all", "", d["instructions"], d["blocked"]))
    yield from table(("NMI at", "body", "in", "from and to", "instructions", "NMIs blocked"), rows)


PARTS = {
    "second": "#2 at each boundary of #1's path",
    "third": "#3 at each boundary of nested #2's path",
    "fault": "a page fault at each boundary of #1's path",
}


def outcomes(rows):
    """How many rows came to what, most first."""
    count = {}
    for row in rows:
        count[rule(row)] = count.get(rule(row), 0) + 1
    return ", ".join(f"{number(n)} {what}" for what, n in sorted(count.items(), key=lambda c: (-c[1], c[0])))


def linux(*documents):
    """Sweeps of real kernels, a table for each."""
    yield from head("Sweeps of real Linux kernels", documents, "linux")
    yield "`vmm linux --sweep --part second,third,fault`, NMI #1 at each of the sites; [linux.md](../guide/linux.md) says what is"
    yield "expected where, and why. *Must pass* counts the boundaries where entry code can survive; a case among them that"
    yield "does not pass is a defect. *Blocked*: NMIs are as the CPU left them. *Unblocked*: something else has unblocked them"
    yield "there; in the part with faults, NMI #2 comes where the fault returns."
    yield ""
    for d in documents:
        kernel, total = d["kernel"], d["summary"]
        file = "/".join(kernel["file"].split("/")[-2:])
        yield f"## {kernel['version']} (`{file}`)"
        yield ""
        yield f"Words on its command line: `{kernel['cmdline']}`. Image {kernel['image']}."
        yield ""
        for e in d.get("errors", []):
            yield f"Not swept: `{e['site'] or 'getppid'}`: {e['why']}."
            yield ""
        yield from table(
            ["#1 at", "what", "NMIs", "cases", "must pass", "of these do", "the others"],
            (
                [f"`{s['site']}`", PARTS[s["part"]], "blocked" if s["nmis"] == "masked" else "unblocked", number(s["cases"])]
                + [number(len(must)), number(sum(r["verdict"] == "pass" for r in must))]
                + [outcomes([r for r in s["rows"] if r["expected"] != "pass"])]
                for s in d["sweeps"]
                for must in [[r for r in s["rows"] if r["expected"] == "pass"]]
            ),
        )
        rechecked, disagreed = (sum(s[k] for s in d["sweeps"]) for k in ("rechecked", "disagreed"))
        yield f"{number(total['defects'])} defects in {number(total['cases'])} cases; {number(rechecked)} were run again by `KVM_NMI`, and"
        yield f"{disagreed} disagreed."
        yield ""
