//! The state graph as a drawing: states merged by label and nesting.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write;

use super::states::{Edge, Id};
use crate::image::Names;

/// Graphviz DOT of the graph. `places` holds instruction and nesting of each state.
pub fn graph(names: Names, places: &[(u64, u32)], links: &HashSet<(Id, Id, Edge)>) -> String {
    let node = |id: Id| {
        let (rip, nesting) = places[id as usize];
        (nesting, names.label(rip))
    };
    let mut states = BTreeMap::<_, u64>::new();
    for id in 0..places.len() as Id {
        *states.entry(node(id)).or_default() += 1;
    }
    let mut edges = BTreeMap::<_, u64>::new();
    for (from, to, edge) in links {
        if *edge != Edge::Step || node(*from) != node(*to) {
            *edges.entry((node(*from), node(*to), *edge)).or_default() += 1;
        }
    }
    let mut out = String::from("digraph states {\n  rankdir=LR;\n  node [shape=box, fontname=monospace];\n");
    let name = |(nesting, label): &(u32, String)| format!("\"{nesting}: {label}\"");
    for (key, count) in &states {
        let (nesting, label) = key;
        let _ = writeln!(out, "  {} [label=\"{label}\\nNMIs live: {nesting}\\n{count} states\"];", name(key));
    }
    for ((from, to, edge), count) in &edges {
        let style = match *edge {
            Edge::Step => "",
            Edge::NMI => ", color=red, fontcolor=red",
            Edge::Event(_) => ", color=blue, fontcolor=blue",
        };
        let _ = writeln!(out, "  {} -> {} [label=\"{count}\"{style}];", name(from), name(to));
    }
    out.push_str("}\n");
    out
}
