//! What the house asks of its files. Each finding says what to change.

use std::path::Path;

use super::graph::{Graph, Uses};
use super::tree::Tree;

/// The rooms of `vmm/src`, from the top down: a room uses only those in lines after its own.
/// Rooms of one line stand side by side, and use each other neither.
pub const ROOMS: &[&[&str]] = &[
    &["main"],
    &["cli"],
    &["sandbox", "report"],
    &["debug"],
    &["campaign"],
    &["compare", "bench", "necessity"],
    &["explore"],
    &["kernels"],
    &["inject"],
    &["oracle"],
    &["probe"],
    &["machine"],
    &["image"],
    &["kvm"],
    &["cpu", "host_id", "folder"],
];

/// A word, the room that alone may say it, and why.
pub const WORDS: &[(&str, &str, &str)] = &[
    ("kvm_bindings", "kvm", "use a type of vmm/src/kvm, and add it there where it is missing"),
    ("kvm_ioctls", "kvm", "use a type of vmm/src/kvm, and add it there where it is missing"),
    ("unsafe", "kvm", "move the unsafe operation there, behind a safe function"),
    ("clap", "cli", "pass what was read from the command line as a plain type"),
];

/// The longest file, in lines.
pub const LONGEST: usize = 420;

/// A `use` of a room that stands above the one that uses it.
pub fn order(tree: &Tree, graph: &Graph, rooms: &[&[&str]]) -> Vec<String> {
    let place = |room: &str| rooms.iter().position(|line| line.contains(&room));
    let mut found = vec![];
    for file in tree.files.iter().filter(|f| f.path != Path::new("lib.rs")) {
        if place(&file.room()).is_none() {
            found.push(format!(
                "{}: the room {} has no place in the order of rooms. Give it one in ROOMS \
                 (tests/tests/house/rules.rs) and in docs/internals/architecture.md.",
                file.path.display(),
                file.room()
            ));
        }
    }
    for (&(from, to), uses) in &graph.edges {
        let (user, used) = (tree.files[from].room(), tree.files[to].room());
        let (Some(low), Some(high)) = (place(&user), place(&used)) else { continue };
        if low < high || user == used {
            continue;
        }
        found.push(format!(
            "{}: {user} is below {used}, or beside it, in the order of rooms, and must not use it. \
             Move the item of {} to {user} or a room below it, or pass what is needed as an argument.",
            said(tree, from, uses),
            tree.path(to)
        ));
    }
    found
}

/// Files that use each other, in a circle of any length.
pub fn cycles(tree: &Tree, graph: &Graph) -> Vec<String> {
    let mut found = vec![];
    for group in graph.circles() {
        let mut files: Vec<_> = group.iter().map(|&f| tree.path(f)).collect();
        files.sort();
        let mut text = format!(
            "{}: these files use each other. Move the shared item to a file that uses none of \
             them, or pass what is needed as an argument.",
            files.join(", ")
        );
        for (&(from, to), uses) in &graph.edges {
            if group.contains(&from) && group.contains(&to) {
                text += &format!("\n    {} of {}", said(tree, from, uses), tree.path(to));
            }
        }
        found.push(text);
    }
    found
}

fn said(tree: &Tree, from: usize, uses: &Uses) -> String {
    let first = uses.values().min().expect("an edge has a name");
    let names: Vec<_> = uses.keys().map(String::as_str).collect();
    format!("{}:{first} uses {}", tree.path(from), names.join(", "))
}

/// A word that belongs to one room, said in another.
pub fn words(tree: &Tree, words: &[(&str, &str, &str)]) -> Vec<String> {
    let mut found = vec![];
    for file in &tree.files {
        for (word, room, instead) in words.iter().filter(|(_, room, _)| file.room() != *room) {
            if let Some((_, line)) = file.words.iter().find(|(w, _)| w == word) {
                let path = file.path.display();
                found.push(format!("{path}:{line}: `{word}` belongs to {room}/ alone: {instead}."));
            }
        }
    }
    found
}

/// Files that hold more than one idea, by their length.
pub fn lengths(tree: &Tree) -> Vec<String> {
    let long = tree.files.iter().filter(|f| f.lines > LONGEST);
    long.map(|f| {
        format!(
            "{}: {} lines, and at most {LONGEST} are wanted. Split it where a second idea begins.",
            f.path.display(),
            f.lines
        )
    })
    .collect()
}
